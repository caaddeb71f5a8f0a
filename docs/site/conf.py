"""The documentation as a site: `make docs` (docs/decisions/0038-site.md).

The source is the checkout, so that pages keep their places and their links; what stands in a page
for the site alone, its part of the navigation, is added while it is read.
"""

import json
import logging
import re
import shutil
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]

from diagrams import with_pictures  # noqa: E402 - beside this file
from docstrings import to_rst  # noqa: E402
from notebook import to_markdown  # noqa: E402

ARRAY = re.compile(
    r"~?[\w.]*ndarray\[tuple\[~?[\w.]*Any, \.\.\.\], ~?[\w.]*dtype\[~?(?:numpy\.)?(\w+)\]\]"
)

# Libraries that say what they load.
logging.getLogger("faiss").setLevel(logging.WARNING)

project = "vicinal"
version = release = version_of("vicinal")
html_title = f"vicinal {version}"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "README"
source_suffix = {".md": "markdown", ".ipynb": "markdown", ".rst": "restructuredtext"}
include_patterns = ["*.md", "docs/**"]
# Hidden folders, what is built, and code: nothing below them is looked at.
exclude_patterns = [".*", "**/.*", "build", "dist", "runs", "data", "stores"]
exclude_patterns += [
    "common",
    "server",
    "client",
    "sims",
    "tests",
    "benchmarks",
    "configs",
    "proto",
]

myst_heading_anchors = 6  # named as the forges name them
myst_links_external_new_tab = False
smartquotes = False  # two dashes begin an option

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_static_path = ["static"]
html_favicon = "static/icon.svg"
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = html_show_sphinx = False
html_show_copyright = False
pygments_style, pygments_dark_style = "friendly", "github-dark-high-contrast"

# Of a page: the parts of the navigation that begin there, each a caption and pages or patterns.
NAVIGATION: dict[str, list[tuple[str, list[str]]]] = {
    "README": [
        ("Start", ["All pages </docs/README>", "docs/notebooks/first-hour", "docs/api"]),
        ("How to", ["docs/how-to/*"]),
        ("Results", ["docs/results", "docs/results/README", "docs/performance", "docs/scale",
                     "docs/latency", "docs/reliability", "docs/privacy", "docs/private-offload"]),
        ("Reference", ["docs/glossary", "docs/reference", "docs/site/api/index", "docs/metrics",
                       "docs/defenses", "docs/protocol", "docs/kit/README"]),
        ("How it works", ["docs/theory", "docs/architecture", "docs/decisions/README"]),
        ("Project", ["CONTRIBUTING", "SECURITY", "CHANGELOG"]),
    ],
    "docs/results/README": [("", ["docs/results/*"])],
    "docs/decisions/README": [("", ["docs/decisions/0*"])],
}  # fmt: skip


def read(_: Sphinx, page: str, source: list[str]) -> None:
    """A notebook becomes Markdown; a page gets its pictures and its part of the navigation."""
    if source[0].lstrip().startswith("{"):
        source[0] = to_markdown(json.loads(source[0]))
    if "\n## " not in source[0]:  # tables as commands print them
        source[0] = re.sub(r"^###(?= )", "##", source[0], flags=re.MULTILINE)
    source[0] = with_pictures(source[0])
    for caption, pages in NAVIGATION.get(page, []):
        lines = [":hidden:", ":glob:", *([f":caption: {caption}"] if caption else []), ""]
        lines += [each if "<" in each else f"/{each}" for each in pages]
        source[0] += "\n\n```{toctree}\n" + "\n".join(lines) + "\n```\n"


def docstring(_: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """What autodoc shows of an object, as reStructuredText."""
    lines[:] = to_rst(lines)


def signature(
    _: Sphinx, what: str, name: str, thing: Any, options: Any, shown: str | None, gives: str | None
) -> tuple[str | None, str | None]:
    """Arrays are shown by what they hold, as the code has them."""

    def short(text: str | None) -> str | None:
        return text and ARRAY.sub(r"NDArray[\1]", text)

    return short(shown), short(gives)


def skip(_: Sphinx, what: str, name: str, thing: Any, leave: bool, options: Any) -> bool | None:
    """A field of a named tuple has no docstring of its own."""
    return True if (thing.__doc__ or "").startswith("Alias for field number") else None


def front_page(app: Sphinx, error: Exception | None) -> None:
    """The page that a web server shows for the folder."""
    if error is None and app.builder.name == "html":
        shutil.copy(Path(app.outdir, "README.html"), Path(app.outdir, "index.html"))


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", read)
    app.connect("autodoc-process-docstring", docstring)
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-skip-member", skip)
    app.connect("build-finished", front_page)
