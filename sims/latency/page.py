"""The laboratory's results as a page of Markdown, with its pictures.

`python -m sims.latency.page PAGE` writes the head of a page anew, from the tables that it has.
"""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from common.errors import InputError
from common.files import write_output
from sims.latency.headlines import headlines
from sims.latency.report import SettingReport, machine
from sims.latency.table import sheets, summary

TITLE: Final = """\
# Server-side against device-side latency

Where to fine-tune: on the server, or on users' devices? [how-to/latency.md](how-to/latency.md) says
what is measured, how, and what it does not say. Symbols are explained in the
[glossary](glossary.md). The lines that follow are made from the tables below.
"""
ABOUT: Final = """\
## How it was measured

This page is printed by

```sh
{command}
```

{system}, {cores} cores, Python {python}; {place}. Times hold for this machine, ratios on others
too. Tables that say *extrapolated*, dotted lines and figures with a `*` follow from formulas alone.
`*` in the lines above means extrapolated.
"""
APART: Final = "server, and load and devices, on cores of their own"
TOGETHER: Final = "server, load and devices share the cores"


def page_of(
    parts: Sequence[SettingReport],
    pictures: Sequence[Path],
    page: Path,
    *,
    command: str,
    apart: bool,
) -> str:
    """The page, printed by `command`; pictures are linked as seen from where `page` lies."""
    about = ABOUT.format(command=command, place=APART if apart else TOGETHER, **machine())
    sections = [about, summary(parts).markdown()]
    for part in parts:
        sections.append(f"## {part.setting.label}")
        sections += [sheet.markdown() for sheet in sheets(part)]
        sections += [
            _linked(path, page) for path in pictures if path.stem.startswith(f"{part.stem}-")
        ]
    return with_head(_joined(sections))


def with_head(text: str) -> str:
    """The whole page from all but its head: title, and lines made from the tables."""
    return _joined([TITLE, headlines(text), text])


def measured(page: str) -> str:
    """A page without its head. Raises InputError for another page."""
    first = re.search("^## ", page, re.MULTILINE)
    if first is None:
        raise InputError("no section on this page")
    return page[first.start() :]


def _joined(sections: Sequence[str]) -> str:
    return "\n\n".join(filter(None, (section.strip() for section in sections))) + "\n"


def _linked(picture: Path, page: Path) -> str:
    where = os.path.relpath(picture.resolve(), page.resolve().parent)
    return f"![{picture.stem.replace('-', ' ')}]({Path(where).as_posix()})"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    write_output(path, with_head(measured(path.read_text(encoding="utf-8"))).encode())
