"""The digest of a package's code."""

import shutil
from pathlib import Path

import common
from common.source import source_digest

COMMON = Path(str(common.__file__)).parent


def test_it_depends_on_code_alone_not_on_where_it_lies(tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "common"
    shutil.copytree(COMMON, copy)
    (copy / "notes.txt").write_text("not code")
    assert source_digest(copy) == source_digest(COMMON)


def test_a_change_a_new_name_and_a_new_module_are_seen(tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "inner").mkdir(parents=True)
    module = package / "inner" / "a.py"
    module.write_text("x = 1\n")
    digests = [source_digest(package)]
    module.write_text("x = 2\n")
    digests.append(source_digest(package))
    module = module.rename(package / "inner" / "b.py")
    digests.append(source_digest(package))
    (package / "c.py").touch()
    digests.append(source_digest(package))
    # Contents that run into the next file's name must not look like another split of the two.
    module.write_text("x = 2\npackage/c.py")
    digests.append(source_digest(package))
    assert len(set(digests)) == len(digests)


def test_the_order_of_packages_does_not_count(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for package in (first, second):
        package.mkdir()
        (package / "a.py").write_text(package.name)
    assert source_digest(first, second) == source_digest(second, first)
    assert source_digest(first, second) != source_digest(first)
