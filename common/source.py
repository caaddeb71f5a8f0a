"""The digest of the code that a process runs.

A fleet's clients may import another checkout than the server believes, silently; so every
client says what it loaded, and the server compares.
"""

import hashlib
from pathlib import Path


def source_digest(*packages: Path) -> str:
    """SHA-256 over names and contents of every .py file below some packages' folders.

    Names start at the package, so that two copies of the same code agree wherever they lie.
    Raises OSError when a file cannot be read.
    """
    files = {
        path.relative_to(package.parent).as_posix(): path
        for package in packages
        for path in package.rglob("*.py")
    }
    hasher = hashlib.sha256()
    for name, path in sorted(files.items()):
        data = path.read_bytes()
        hasher.update(f"{name}\0{len(data)}\0".encode())
        hasher.update(data)
    return hasher.hexdigest()
