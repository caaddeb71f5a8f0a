"""The laboratory's results as a page of Markdown, with its pictures."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sims.latency.report import SettingReport, machine
from sims.latency.table import sheets, summary

INTRODUCTION: Final = """\
# Server-side against device-side latency

What is measured, how, and what it does not say: [how-to/latency.md](how-to/latency.md). This page
is printed by

```sh
{command}
```

{system}, {cores} cores, Python {python}; {place}. Times hold for this machine, ratios on others
too. Tables that say *extrapolated*, dotted lines and figures with a `*` follow from formulas alone.
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
    introduction = INTRODUCTION.format(
        command=command, place=APART if apart else TOGETHER, **machine()
    )
    sections = [introduction, summary(parts).markdown()]
    for part in parts:
        sections.append(f"## {part.setting.label}")
        sections += [sheet.markdown() for sheet in sheets(part)]
        sections += [
            _linked(path, page) for path in pictures if path.stem.startswith(f"{part.stem}-")
        ]
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _linked(picture: Path, page: Path) -> str:
    where = os.path.relpath(picture.resolve(), page.resolve().parent)
    return f"![{picture.stem.replace('-', ' ')}]({Path(where).as_posix()})"
