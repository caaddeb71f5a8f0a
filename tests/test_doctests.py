"""The examples in docstrings are what the code gives, in every module of ours."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("common", "server", "client", "sims")
# Run, never imported: it pins.
NOT_IMPORTED = {"common.pinning"}


def modules() -> list[str]:
    """Those with an example in them."""
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    names = []
    for path in [ROOT / "vicinal.py", *paths]:
        docs = [
            ast.get_docstring(node) or ""
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        ]
        if any(">>> " in text for text in docs):
            names.append(".".join(path.relative_to(ROOT).with_suffix("").parts))
    return [name for name in names if name not in NOT_IMPORTED]


def test_there_are_examples() -> None:
    assert {"common.ratings", "sims.functions", "server.recommending.own_model"} <= set(modules())


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted and not found.failed
