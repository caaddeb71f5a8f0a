"""Generate the Python modules of the wire contract: proto/vicinal/v1/*.proto -> common/wire/.

    python proto/generate.py            write them (`make stubs`)
    python proto/generate.py --check    fail when the committed ones differ (`make check`)

protoc is told that proto/vicinal/v1 *is* the folder common/wire, so what it writes imports
`common.wire.…` by itself and nothing is rewritten afterwards. A .proto file that imports
another one names it as "common/wire/other.proto".
"""

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
CONTRACT = Path("proto/vicinal/v1")
PACKAGE = Path("common/wire")
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def generate(out: Path) -> None:
    """Write a message module, a service module and their type stubs under out/common/wire.

    Raises SystemExit when protoc refuses a .proto file (it has said why).
    """
    tools = Path(sys.executable).parent
    sources = sorted((ROOT / CONTRACT).glob("*.proto"))
    arguments = [
        "protoc",
        f"-I{PACKAGE}={ROOT / CONTRACT}",
        f"--plugin=protoc-gen-mypy={tools / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={tools / 'protoc-gen-mypy_grpc'}",
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--mypy_grpc_out=quiet:{out}",
        *(str(PACKAGE / source.name) for source in sources),
    ]
    status = protoc.main(arguments)
    if status:
        raise SystemExit(status)


def modules(root: Path) -> dict[str, bytes]:
    """The generated files under root/common/wire, by name."""
    folder = root / PACKAGE
    return {path.name: path.read_bytes() for glob in GENERATED for path in folder.glob(glob)}


def stale(root: Path) -> list[str]:
    """Names of files under root/common/wire that are not what the contract gives, sorted."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = modules(Path(scratch))
    committed = modules(root)
    names = fresh.keys() | committed.keys()
    return sorted(name for name in names if fresh.get(name) != committed.get(name))


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        differing = stale(ROOT)
        if differing:
            sys.stderr.write(
                f"{PACKAGE}: {', '.join(differing)} not as {CONTRACT} says: run `make stubs`\n"
            )
        return 1 if differing else 0
    if arguments:
        sys.stderr.write(f"usage: {Path(__file__).name} [--check]\n")
        return 2
    generate(ROOT)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
