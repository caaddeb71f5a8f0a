"""How many cores a process may keep busy."""

import os
from pathlib import Path

import pytest

from common.processes import core_count

HERE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def groups_of(folder: Path, line: str, files: dict[str, str]) -> tuple[Path, Path]:
    for name, text in files.items():
        path = folder / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "cgroup").write_text(line)
    return folder / "cgroup", folder / "files"


@pytest.mark.parametrize(
    ("line", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, HERE),
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "30000 100000\n"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "50000 100000", "a/b/cpu.max": "max 100000"}, 1),
        ("0::/a\n", {"b/cpu.max": "50000 100000"}, HERE),
        ("0::/a\n", {"a/cpu.max": "no numbers"}, HERE),
        (
            "4:cpu,cpuacct:/d\n1:memory:/d\n",
            {"cpu,cpuacct/d/cpu.cfs_quota_us": "100000", "cpu,cpuacct/d/cpu.cfs_period_us": "1e5"},
            1,
        ),
        (
            "4:cpu:/\n",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            HERE,
        ),
    ],
)
def test_a_group_s_quota_counts(
    line: str, files: dict[str, str], cores: int, tmp_path: Path
) -> None:
    assert core_count(*groups_of(tmp_path, line, files)) == cores


def test_where_there_are_no_groups_affinity_counts(tmp_path: Path) -> None:
    assert core_count(tmp_path / "none", tmp_path) == HERE


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinity")
def test_affinity_counts(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert core_count(tmp_path / "none", tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)
