"""The generated modules are what the contract gives, and a difference is seen."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
WIRE = Path("common/wire")


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "proto/generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_committed_is_fresh(generate: ModuleType) -> None:
    assert generate.stale(ROOT) == []


def test_an_edit_a_loss_and_a_leftover_are_seen(generate: ModuleType, tmp_path: Path) -> None:
    shutil.copytree(ROOT / WIRE, tmp_path / WIRE)
    with (tmp_path / WIRE / "offload_pb2.py").open("a") as module:
        module.write("# edited by hand\n")
    (tmp_path / WIRE / "offload_pb2.pyi").unlink()
    (tmp_path / WIRE / "old_pb2.py").touch()
    assert generate.stale(tmp_path) == ["offload_pb2.py", "offload_pb2.pyi", "old_pb2.py"]
