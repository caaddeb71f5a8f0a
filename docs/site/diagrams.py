"""Diagrams: text in Mermaid on a page, which a forge draws itself, and a picture on the site.

`make diagrams` draws them. A picture is named after its text: a diagram that was changed has none,
which is a warning when the site is made.
"""

import hashlib
import json
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
PICTURES = HERE / "diagrams"
DOCS = HERE.parent
VIEW = re.compile(r'viewBox="\S+ \S+ (\S+) (\S+)"')
# Of the letters, which are drawn for a page of their own.
SCALE = 0.8
DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def name_of(text: str) -> str:
    """The file of a diagram's picture."""
    return f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.svg"


def with_pictures(page: str) -> str:
    """A page of the site; who does not see a picture is told its text."""
    return DIAGRAM.sub(_picture, page)


def _picture(found: re.Match[str]) -> str:
    told = json.dumps(" ".join(found[1].split()), ensure_ascii=False)
    place = f"/docs/site/diagrams/{name_of(found[1])}"
    return f"````{{container}} diagram\n```{{image}} {place}\n:alt: {told}\n```\n````"


def texts() -> dict[str, str]:
    """Of all pages, by the file of the picture."""
    pages = (path.read_text("utf-8") for path in sorted(DOCS.rglob("*.md")))
    return {name_of(text): text for page in pages for text in DIAGRAM.findall(page)}


def sized(picture: str) -> str:
    """As large as its letters want it, rather than as wide as the page."""
    (width, height) = VIEW.findall(picture)[0]
    size = f'width="{float(width) * SCALE:.0f}" height="{float(height) * SCALE:.0f}"'
    return picture.replace('width="100%"', size, 1)


def draw() -> None:
    """Those that have no picture; pictures of what is on no page any more are deleted."""
    import mermaidx  # noqa: PLC0415 - uv brings it for this alone

    PICTURES.mkdir(exist_ok=True)
    wanted = texts()
    for path in PICTURES.iterdir():
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        if not (PICTURES / name).exists():
            (PICTURES / name).write_text(sized(mermaidx.render(text).svg()) + "\n", "utf-8")


if __name__ == "__main__":
    draw()
