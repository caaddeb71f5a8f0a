"""A report as HTML, as Markdown, as CSV, and as a manifest."""

import base64
import csv
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from common.text import one_line
from sims.reporting.document import MOST_LETTERS, Document, Entry, Number, ReportTable

CONTEXT: Final = "https://w3id.org/ro/crate/1.1/context"
PROFILE: Final = "https://w3id.org/ro/crate/1.1"
HOMEPAGE: Final = "https://arxiv.org/abs/2309.17278"


def as_html(document: Document) -> bytes:
    """One file that fetches nothing and runs nothing."""
    environment = Environment(
        loader=PackageLoader("sims.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=False,
        # One line without what a browser would obey or nobody sees.
        finalize=lambda value: value if isinstance(value, Markup) else _one(str(value)),
    )
    environment.filters["b64"] = lambda data: Markup(base64.b64encode(data).decode("ascii"))
    # Within <script> nothing may end it, whatever a name holds.
    manifest = json.dumps(manifest_of(document), indent=1).replace("<", "\\u003c")
    text = environment.get_template("report.html.j2").render(
        document=document,
        sections=list(document.shown()),
        manifest=Markup(manifest),
        printed_by=version("vicinal"),
    )
    return text.encode()


def as_markdown(document: Document) -> bytes:
    """The same text and tables; pictures are told in words."""
    lines = [f"# {_flat(document.title)}", "", *(f"{_flat(line)}\n" for line in document.summary)]
    for one in document.shown():
        lines += [f"## {_flat(one.heading)}", ""]
        lines += [f"{_flat(line)}\n" for line in one.text]
        lines += [f"- {_flat(line)}" for line in one.points]
        lines += [""] if one.points else []
        for table in one.tables:
            lines += _markdown_table(table)
        lines += [
            f"*{_flat(picture.heading)}*: {_flat(picture.told)}\n" for picture in one.pictures
        ]
    lines += ["## Repeat it", ""]
    if document.commands:
        lines += ["```sh", *map(_flat, document.commands), "```", ""]
    else:
        lines += ["The command was not recorded: these results are of an earlier version.", ""]
    lines += [f"- {_flat(name)} {_flat(text)}" for name, text in document.versions.items()]
    return ("\n".join(lines).rstrip() + "\n").encode()


def _markdown_table(table: ReportTable) -> list[str]:
    lines = [f"### {_flat(table.heading)}", ""]
    lines += [
        "| " + " | ".join(map(_cell, table.head)) + " |",
        "|---|" + "---:|" * (len(table.head) - 1),
    ]
    for row in table.rows:
        lines.append("| " + " | ".join(_bold(entry) for entry in row) + " |")
    return [*lines, "", *([f"{_flat(table.note)}\n"] if table.note else [])]


def _bold(entry: Entry) -> str:
    better = isinstance(entry, Number) and entry.better
    return f"**{_cell(str(entry))}**" if better else _cell(str(entry))


def _cell(text: str) -> str:
    return _flat(text).replace("|", "\\|")


def _flat(text: str) -> str:
    """One line, which no HTML begins in."""
    return _one(text).replace("<", "&lt;")


def _one(text: str) -> str:
    return one_line(text, MOST_LETTERS)


def as_csv(document: Document) -> bytes:
    """A row a result, every column that one of them has.

    Text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    columns = list(dict.fromkeys(name for row in document.rows for name in row))
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row in document.rows:
        writer.writerow([_csv_cell(row.get(name)) for name in columns])
    return buffer.getvalue().encode()


def _csv_cell(value: Any) -> Any:
    if isinstance(value, list | tuple | dict):
        value = json.dumps(value)
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


def as_manifest(document: Document) -> bytes:
    """What belongs together, as JSON-LD."""
    return (json.dumps(manifest_of(document), indent=1) + "\n").encode()


def manifest_of(document: Document) -> dict[str, Any]:
    """In the shape of an RO-Crate's metadata (RO-Crate 1.1, sections 2–5): data, tool, action."""
    files = [_file(path) for path in document.files]
    software: dict[str, Any] = {
        "@id": "#vicinal",
        "@type": "SoftwareApplication",
        "name": "vicinal",
        "url": HOMEPAGE,
        "softwareVersion": document.versions.get("vicinal", version("vicinal")),
    }
    if others := {name: text for name, text in document.versions.items() if name != "vicinal"}:
        software["softwareRequirements"] = [f"{name} {text}" for name, text in others.items()]
    results: list[Mapping[str, Any]] = [{"@id": one["@id"]} for one in files]
    return {
        "@context": CONTEXT,
        "@graph": [
            {
                "@id": "ro-crate-metadata.json",
                "@type": "CreativeWork",
                "conformsTo": {"@id": PROFILE},
                "about": {"@id": "./"},
            },
            {
                "@id": "./",
                "@type": "Dataset",
                "name": document.title,
                "description": " ".join(document.summary),
                "datePublished": datetime.now(UTC).date().isoformat(),
                "hasPart": results,
                "mentions": {"@id": "#run"},
            },
            *files,
            software,
            {
                "@id": "#run",
                "@type": "CreateAction",
                "name": "; ".join(document.commands) or "not recorded",
                "instrument": {"@id": "#vicinal"},
                "result": results,
                "object": [
                    {"@type": "PropertyValue", "name": name, "value": value}
                    for name, value in document.asked.items()
                ],
            },
        ],
    }


def _file(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {
        "@id": f"{path.parent.name}/{path.name}" if path.parent.name == "cells" else path.name,
        "@type": "File",
        "encodingFormat": "application/json",
        "contentSize": str(len(data)),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


# By the ending of the file that is asked for.
WRITERS: Final[dict[str, Callable[[Document], bytes]]] = {
    ".html": as_html,
    ".md": as_markdown,
    ".csv": as_csv,
    ".json": as_manifest,
}
