"""How much memory this process may still take: of the machine, and of a container's limit."""

import os
from pathlib import Path
from typing import Final

# Of cgroups, version 2 and 1: the limit, what is taken, and the line of `memory.stat` that says how
# much of that is files that can be dropped.
CGROUPS: Final = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)
CGROUP_FOLDER: Final = Path("/sys/fs/cgroup")
MEMINFO: Final = Path("/proc/meminfo")
# Where no system says how much there is.
FALLBACK: Final = 8 << 30
_MOST: Final = 1 << 16


def available_memory(meminfo: Path = MEMINFO, cgroups: Path = CGROUP_FOLDER) -> int:
    """Bytes that are free, or could be made so; the least of what the system and a limit leave."""
    found = [size for size in (_of_machine(meminfo), _of_container(cgroups)) if size is not None]
    return min(found, default=FALLBACK)


def _of_machine(meminfo: Path) -> int | None:
    for line in _lines(meminfo):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) << 10
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _of_container(folder: Path) -> int | None:
    for limit_name, usage_name, dropped_name in CGROUPS:
        limit, usage = _number(folder / limit_name), _number(folder / usage_name)
        if limit is None or usage is None:
            continue
        stat = (folder / limit_name).parent / "memory.stat"
        words = (line.split() for line in _lines(stat))
        dropped = next((int(each[1]) for each in words if each[0] == dropped_name), 0)
        return max(limit - usage + dropped, 0)
    return None


def _number(path: Path) -> int | None:
    """None where there is no such file, and where it says `max`."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8", errors="replace") as opened:
            return opened.read(_MOST).splitlines()
    except OSError:
        return []
