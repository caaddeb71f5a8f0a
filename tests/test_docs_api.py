"""docs/api.md has every public name as the code says it, and its examples run.

`python -m tests.test_docs_api` writes the blocks of the page anew.
"""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vicinal as vc
from sims.api.page import renewed

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "api.md"
README = ROOT / "README.md"
NAMES = [
    "load", "attack", "train", "evaluate", "compare", "defend", "picture",
    "Dataset", "RatingMatrix", "RatingScale", "Profiles", "Budget", "Model", "Recommendations",
    "Evaluation", "Comparison", "Picture", "InputError", "VicinalError",
]  # fmt: skip


def named(name: str) -> Any:
    return getattr(vc, name)


def examples() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def test_the_public_names() -> None:
    assert vc.__all__ == NAMES
    assert set(NAMES) <= set(dir(vc))
    for name in NAMES:
        assert named(name).__name__ == name and named(name).__doc__
    with pytest.raises(AttributeError, match="module 'vicinal' has no attribute 'atack'"):
        named("atack")


def imports(body: list[ast.stmt]) -> dict[str, str | None]:
    """Where each name comes from."""
    return {
        alias.name: node.module
        for node in body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_a_checker_sees_the_names_that_are_loaded_later() -> None:
    """What stands under TYPE_CHECKING, and in the stub, is what __getattr__ finds."""
    (block,) = [
        node
        for node in ast.parse((ROOT / "vicinal.py").read_text("utf-8")).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    seen = imports(block.body)
    assert seen == vc._PLACES
    assert set(seen) == set(NAMES)
    stub = ROOT / "vicinal-stubs" / "__init__.pyi"
    assert imports(ast.parse(stub.read_text("utf-8")).body) == seen


def test_importing_it_loads_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import vicinal, time; "
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before})); "
        "vicinal.InputError; print('numpy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded, numpy = done.stdout.splitlines()
    assert set(loaded.split()) - sys.stdlib_module_names == {
        "vicinal", "common", "server", "client", "sims",
    }  # fmt: skip
    assert numpy == "False"


def test_a_library_that_is_missing_is_named() -> None:
    code = "import sys; sys.modules['matplotlib'] = None; import vicinal; vicinal.picture"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    told = "ImportError: vicinal.picture needs matplotlib: pip install 'vicinal[all]'"
    assert done.stderr.splitlines()[-1] == told


def test_every_name_has_its_section_as_the_code_says() -> None:
    text = PAGE.read_text("utf-8")
    assert re.findall(r"^## `(\w+)`$", text, re.MULTILINE) == NAMES
    assert renewed(text, named) == text, "run `python -m tests.test_docs_api`"


@pytest.mark.parametrize("name", [name for name in NAMES if name.islower()])
def test_every_parameter_is_told_of(name: str) -> None:
    told = re.findall(r"^(\w+)  ", inspect.getdoc(named(name)) or "", re.MULTILINE)
    assert told == list(inspect.signature(named(name)).parameters)


def test_every_name_has_an_example_in_its_section() -> None:
    for section in PAGE.read_text("utf-8").split("\n## ")[1:]:
        name = section.split("`")[1]
        (code,) = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
        assert re.search(rf"\bvc\.{name}\b", code), name


def test_the_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    for code in examples():
        exec(compile(code, str(PAGE), "exec"), scope)
    shown = capsys.readouterr().out
    for word in ("Dataset(friends: 2 users × 2 items", "Profiles(attack praise", "Model(mf of"):
        assert word in shown
    assert (tmp_path / "before-after.png").read_bytes().startswith(b"\x89PNG")


def test_the_readmes_lines_run(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(
        r"^```python\n(.*?)^```", README.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    exec(compile(code.replace("ml-100k", "synthetic:60x120"), str(README), "exec"), {})
    assert "popularity ranking" in capsys.readouterr().out


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text("utf-8"), named), "utf-8")
