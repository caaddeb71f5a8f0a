"""The documentation as a site: what becomes of docstrings and notebooks, what a browser shows."""

import functools
import http.server
import re
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from docutils import nodes
from docutils.core import publish_doctree
from hypothesis import given
from hypothesis import strategies as st
from websockets.sync.client import ClientConnection

from tests.support.browser import Page, browser, chromium

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "docs" / "site"
to_rst = runpy.run_path(str(SITE / "docstrings.py"))["to_rst"]
diagrams = runpy.run_path(str(SITE / "diagrams.py"))
to_markdown = runpy.run_path(str(SITE / "notebook.py"))["to_markdown"]
# Wide and narrow, with tables, pictures, code, signatures.
LOOKED_AT = (
    "index.html", "docs/results/ml-100k.html", "docs/how-to/grid.html", "docs/reference.html",
    "docs/notebooks/first-hour.html", "docs/site/api/vicinal.html", "CHANGELOG.html",
    "docs/architecture.html", "docs/protocol.html",
)  # fmt: skip
in_browser = pytest.mark.skipif(
    chromium() is None, reason="no Chromium is installed: apt-get install chromium"
)


def read(docstring: str) -> nodes.document:
    """What Sphinx's parser makes of a docstring; a warning is an error."""
    text = "\n".join(to_rst(docstring.splitlines()))
    return publish_doctree(text, settings_overrides={"halt_level": 2, "report_level": 2})


def test_entries_are_a_list_of_definitions() -> None:
    read_of = read("One.\n\nalone\nname   what it\n       is\na, *b  `two`\n\nThen *this_.")
    made = str(read_of)
    assert "<term><literal>alone</literal></term>" in made
    assert "<term><literal>name</literal></term><definition><paragraph>what it is<" in made
    assert "<term><literal>a, *b</literal></term><definition><paragraph><literal>two<" in made
    assert made.count("<definition_list>") == 1
    assert [each.astext() for each in read_of.findall(nodes.paragraph)][-1] == "Then *this_."


def test_code_and_examples_stay_as_they_are() -> None:
    made = read("Use:\n\n    a_b = *c\n\n      d\n\nSo `x\ny`s.\n\n>>> a_b  # *\n1_\n\nEnd.")
    code, example = made.findall(nodes.literal_block), made.findall(nodes.doctest_block)
    assert [each.astext() for each in code] == ["a_b = *c\n\n  d"]
    assert [each.astext() for each in example] == [">>> a_b  # *\n1_"]
    assert [each.astext() for each in made.findall(nodes.paragraph)] == ["Use:", "So x ys.", "End."]


@given(st.text("ab_*|\\:<>[]()-. ", max_size=40), st.text("ab:*_", min_size=1, max_size=5))
def test_only_backticks_are_markup(text: str, code: str) -> None:
    plain = " ".join(f"It is{text}x".split())
    (paragraph,) = read(f"{plain}`{code}`{plain}").findall(nodes.paragraph)
    assert paragraph.astext() == f"{plain}{code}{plain}"
    assert [each.astext() for each in paragraph.findall(nodes.literal)] == [code]


def test_a_notebook_is_its_text_code_and_what_it_gave() -> None:
    shown = {"output_type": "display_data", "data": {"image/png": "AAAA\n", "text/plain": "?"}}
    cells = [
        {"cell_type": "markdown", "source": ["# T\n", "text"]},
        {
            "cell_type": "code",
            "source": ["print(1)"],
            "outputs": [
                {"output_type": "stream", "text": ["1\n"]},
                shown,
                {"output_type": "execute_result", "data": {"text/html": "<b>", "text/plain": "2"}},
                {"output_type": "execute_result", "data": {"text/plain": "3"}},
            ],
        },
    ]
    made = to_markdown({"cells": cells})
    assert made.startswith("# T\ntext\n\n````python\nprint(1)\n````\n\n````text\n1\n")
    assert 'src="data:image/png;base64,AAAA"' in made and "<b>" in made
    assert made.endswith("````text\n3\n````\n") and "?" not in made and "2" not in made


def test_every_diagram_has_its_picture() -> None:
    drawn = {path.name for path in (SITE / "diagrams").iterdir()}
    assert drawn == set(diagrams["texts"]()), "run `make diagrams`"
    assert len(drawn) >= 3
    for name in drawn:
        picture = (SITE / "diagrams" / name).read_text("utf-8")
        assert picture.startswith("<svg") and "<script" not in picture
    shown = diagrams["with_pictures"]('# T\n\n```mermaid\na -- "b: c"\n```\n\nEnd')
    name = diagrams["name_of"]('a -- "b: c"\n')
    picture = f'```{{image}} /docs/site/diagrams/{name}\n:alt: "a -- \\"b: c\\""\n```'
    assert shown == f"# T\n\n````{{container}} diagram\n{picture}\n````\n\nEnd"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-E", "-c", str(SITE)]
    done = subprocess.run(
        [*command, "-d", str(folder / "trees"), str(ROOT), str(folder / "site")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def address(built: Path) -> Iterator[str]:
    """Of a web server with the site."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_request(self, code: object = "-", size: object = "-") -> None:
            pass

    handler = functools.partial(Quiet, directory=str(built))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientConnection]:
    with browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def page(opened: ClientConnection, address: str) -> Iterator[Page]:
    """An empty one; what it asks for afterwards must come from the site, and be there."""
    found = Page(opened)
    yield found
    found.close()
    assert [each for each in found.requests if not each.startswith((address, "data:"))] == []
    assert found.complaints == []


@pytest.mark.slow
def test_every_page_is_there(built: Path) -> None:
    sources = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *SITE.rglob("*.rst")]
    sources += (ROOT / "docs").rglob("*.ipynb")
    pages = {path.relative_to(ROOT).with_suffix(".html").as_posix() for path in sources}
    assert {name for name in pages if not (built / name).is_file()} == set()
    # Every link of the navigation, and no public name that the reference has not.
    front = (built / "index.html").read_text("utf-8")
    assert len(re.findall(r'class="toctree-l1', front)) > 30
    reference = (built / "docs" / "site" / "api" / "vicinal.html").read_text("utf-8")
    names = runpy.run_path(str(ROOT / "vicinal.py"))["__all__"]
    assert [name for name in names if f'id="vicinal.{name}"' not in reference] == []


@pytest.mark.slow
@in_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_is_wider_than_the_screen(page: Page, address: str, width: int) -> None:
    page.size(width)
    for name in LOOKED_AT:
        page.open(f"{address}/{name}").until(
            f"location.pathname == '/{name}' && document.readyState == 'complete'"
        )
        assert page.value("document.documentElement.scrollWidth") <= width, name
        assert page.value("[...document.images].filter(i => !i.naturalWidth).length") == 0, name


@pytest.mark.slow
@in_browser
def test_a_word_is_found_and_leads_to_its_page(page: Page, address: str) -> None:
    page.size(1280)
    page.open(f"{address}/index.html").until("document.readyState == 'complete'")
    page.value("document.querySelector('input[name=q]').focus()")
    page.type("hubclones")
    page.value("document.querySelector('form.sidebar-search-container').requestSubmit()")
    page.until("/finished/.test(document.querySelector('.search-summary')?.innerText)")
    found = page.value("[...document.querySelectorAll('#search-results li > a')].map(a => a.href)")
    assert any("docs/how-to/attacks.html" in each for each in found)
    page.until("!!document.querySelector('#search-results p.context')")  # a line of the page
    page.open(found[0]).until("document.body && document.body.innerText.includes('hubclones')")
