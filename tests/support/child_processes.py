"""What a test process has started."""

from pathlib import Path


def command_of(pid: int) -> bytes:
    """A process's command line, parts ended by 0; empty where it has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def children_of(parent: int, text: str) -> list[int]:
    """Direct child processes whose command line holds a text."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_text()
        except OSError:
            continue
        if int(fields[1]) == parent and text in command and fields[0] != "Z":
            found.append(int(folder.name))
    return found
