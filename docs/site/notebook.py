"""A notebook with what it printed and drew, as Markdown."""

import base64
from typing import Any

FENCE = "`" * 4


def to_markdown(notebook: dict[str, Any]) -> str:
    """Its cells one after another; pictures are part of the text."""
    return "\n\n".join(part for cell in notebook["cells"] for part in _cell(cell)) + "\n"


def _cell(cell: dict[str, Any]) -> list[str]:
    text = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [text]
    shown = [_output(output) for output in cell["outputs"]]
    return [_block("python", text), *shown]


def _output(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return _block("text", "".join(output["text"]))
    data = {kind: "".join(text) for kind, text in output["data"].items()}
    if "image/svg+xml" in data:
        return _picture("svg+xml", base64.b64encode(data["image/svg+xml"].encode()).decode())
    if "image/png" in data:
        return _picture("png", "".join(data["image/png"].split()))
    if "text/html" in data:
        return _block("{raw} html", f'<div class="output">{data["text/html"]}</div>')
    return _block("text", data["text/plain"])


def _picture(kind: str, coded: str) -> str:
    return _block(
        "{raw} html", f'<img alt="what the cell drew" src="data:image/{kind};base64,{coded}">'
    )


def _block(kind: str, text: str) -> str:
    return f"{FENCE}{kind}\n{text}\n{FENCE}"
