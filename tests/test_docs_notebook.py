"""The notebook runs from its first cell to its last, and what it stores is small.

`python -m tests.test_docs_notebook` runs it and stores what it shows, on MovieLens 100K where
VICINAL_DATA has it.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import vicinal as vc
from tests.support.notebooks import executed

PATH = Path(__file__).resolve().parents[1] / "docs" / "notebooks" / "first-hour.ipynb"
MOST_BYTES = 250_000


def stored() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(PATH.read_text("utf-8"))
    return found


def kinds(notebook: dict[str, Any]) -> list[list[str]]:
    """What each code cell shows, by type."""
    return [
        [kind for output in cell["outputs"] for kind in output.get("data", {"text": ""})]
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


def texts(notebook: dict[str, Any]) -> list[str]:
    """What code cells show as text, but for seconds and sizes of pictures."""
    shown = [
        "".join(lines)
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
        for output in cell["outputs"]
        for kind, lines in [*output.get("data", {}).items(), ("text", output.get("text", []))]
        if kind.startswith("text")
    ]
    return [re.sub(r"[\d.]+ (?=s\b|ms\b|seconds\b)|PNG of \d+", "", text) for text in shown]


def test_what_is_stored() -> None:
    notebook, text = stored(), PATH.read_text("utf-8")
    assert notebook["nbformat"] == 4 and len(text) < MOST_BYTES
    assert [cell["execution_count"] for cell in notebook["cells"] if "outputs" in cell] == list(
        range(1, len(kinds(notebook)) + 1)
    )
    assert sum("image/png" in shown for shown in kinds(notebook)) >= 2
    assert not re.search(r"/(?:home|work|tmp|Users)/", text)
    # Every function of the front door.
    code = "".join(line for cell in notebook["cells"] for line in cell["source"])
    functions = [name for name in vc.__all__ if name.islower()]
    assert [name for name in functions if f"vc.{name}(" not in code] == []


@pytest.mark.slow
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VICINAL_DATA", raising=False)
    assert kinds(executed(stored())) == kinds(stored())


@pytest.mark.slow
@pytest.mark.realdata
def test_it_shows_what_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert texts(executed(stored())) == texts(stored()), "run `python -m tests.test_docs_notebook`"


if __name__ == "__main__":
    PATH.write_text(json.dumps(executed(stored()), indent=1, ensure_ascii=False) + "\n", "utf-8")
