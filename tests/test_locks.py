"""What `make install` installs: exact versions, and files whose hashes are known."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PIN = re.compile(r"([A-Za-z0-9._-]+)==(\S+)((?: --hash=sha256:[0-9a-f]{64})*)")


def pins(name: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes of each requirement of a file."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            match = PIN.fullmatch(" ".join(line.split()))
            assert match is not None, line
            found[match[1].lower()] = (match[2], match[3].count("--hash"))
    return found


def test_every_requirement_has_hashes_and_torch_alone_has_none() -> None:
    locked = pins("requirements.lock")
    assert len(locked) > 100 and "torch" not in locked
    assert [name for name, (_, hashes) in locked.items() if not hashes] == []
    assert list(pins("requirements-torch.lock")) == ["torch"]


def test_the_install_asks_for_them() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "--require-hashes --no-deps -r requirements.lock" in makefile
    # With the pins alone, without their hashes, anything of that version would do.
    assert makefile.count("-r requirements.lock") == 1
