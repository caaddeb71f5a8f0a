"""The gateway's pages in a real browser: what is seen, what is read out, and what is not run."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection

from common.ranking import Counts
from server.metrics import Metrics
from server.recommending.survey import Survey
from server.reports.tally import Tally
from server.workers.frames import Status, WorkerResult
from tests.support.browser import Page, browser, chromium
from tests.support.gates import make_gate
from tests.support.gateways import HOSTILE, HOSTILE_ID, KEYS, GatewayProcess, named, write_ids
from tests.support.scenes import WATCHED
from tests.support.serving import Endpoint, make_scene

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        chromium() is None, reason="no Chromium is installed: apt-get install chromium"
    ),
]
OFTEN = {"server.gateway.live.SCRAPE_SECONDS": 0.1}
SURVEY = {
    **dict.fromkeys(Survey.__dataclass_fields__, 0.0),
    "users": 100.0,
    "new_accounts": 0.05,
    "new_neighbors": 0.2,
    "new_neighbors_error": 0.01,
    "eligible": 190.0,
    "hits_undefended": 180.0,
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientConnection]:
    with browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """In front of a server with names that would like to be markup, and a suspicious version."""
    folder = tmp_path_factory.mktemp("pages")
    scene = named(make_scene(folder))
    ids = write_ids(folder / "ids.csv")
    description = scene.description()
    metrics = Metrics(description)
    with scene.tally() as tally, metrics.served(0) as port:
        metrics.watch_tally(tally, lambda _version: True)
        metrics.watch_surveys(lambda: {description.version: {"vicinal": SURVEY}})
        arguments = ("--ids", str(ids), "--server-metrics", str(port))
        with (
            Endpoint(scene.service(tally=tally)) as server,
            GatewayProcess(folder, server.address, *arguments, limits=OFTEN) as started,
        ):
            ended = threading.Event()
            loading = threading.Thread(target=load, args=(metrics, ended))
            loading.start()
            report(tally, description.version)
            yield started
            ended.set()
            loading.join()


def load(metrics: Metrics, ended: threading.Event) -> None:
    """Calls, until there are to be no more."""
    result = WorkerResult(Status.ANSWERED, b"", (0.001, 0.002, 0.003), 0.0004)
    while not ended.wait(0.05):
        metrics.ended("Recommend", "OK", 0.01)
        metrics.ended("Recommend", "RESOURCE_EXHAUSTED", 0.01)
        metrics.answered("Recommend", result)


def report(tally: Tally, version: str) -> None:
    """Two hundred reports, which make two points at most."""
    for count in range(200):
        counts = Counts((1,) * len(WATCHED), (count % 2,) * len(WATCHED), 1, 1, on_device=1)
        tally.add(version, "vicinal", f"{count}", counts)


@pytest.fixture
def live(opened: ClientConnection, gateway: GatewayProcess) -> Iterator[Page]:
    page = Page(opened)
    page.size(1280)
    page.open(f"http://localhost:{gateway.port}/")
    page.until("!document.getElementById('all')?.hidden && !!document.querySelector('#load svg')")
    yield page
    page.close()


def test_the_page_shows_what_the_server_measures(live: Page) -> None:
    text = live.until("!!document.querySelector('#hit-ratio svg') && document.body.innerText")
    assert "Suspicious. New accounts are 5.0 % of all" in text and "4.00 times" in text
    assert "0.947 (" in text  # undefended hit ratio: 180 of 190
    stages = live.value("document.getElementById('stages').innerText")
    assert "Recommend" in stages and "neighbors" in stages
    assert live.value("document.querySelectorAll('#reports-table tbody tr').length") >= 1


def test_nothing_is_loaded_from_elsewhere_and_nothing_complains(
    live: Page, gateway: GatewayProcess
) -> None:
    live.until("performance.getEntriesByType('resource').length > 3")
    own = f"http://localhost:{gateway.port}/"
    asked = [each for each in live.requests if not each.startswith(("about:", own))]
    assert asked == []
    # Without a picture of its own a browser asks for one.
    assert [each for each in live.complaints if "favicon" not in each] == []


def test_hostile_names_are_text(live: Page) -> None:
    shown = live.value("document.getElementById('watched').textContent")
    assert HOSTILE in shown and HOSTILE_ID in shown
    assert live.value("document.querySelectorAll('img').length") == 0
    assert live.value("document.querySelectorAll('script').length") == 2
    assert live.value("window.hacked === undefined") is True


def test_markup_from_a_script_is_refused(live: Page) -> None:
    # Were there a hole in the page, the policy would still stand before it.
    tried = "try { document.body.innerHTML = '<b>x</b>'; 'done' } catch (e) { e.name }"
    assert live.value(tried) == "TypeError"


@pytest.mark.parametrize("width", [1280, 375, 320])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_small_and_large_screens(
    live: Page, width: int, dark: bool, tmp_path: Path
) -> None:
    live.size(width, dark=dark)
    assert live.until(f"window.innerWidth === {width}")
    for details in ("false", "true"):
        live.value(f"document.querySelectorAll('details').forEach(d => d.open = {details})")
        wide = live.value("document.documentElement.scrollWidth")
        assert wide <= width
    paper = live.value("getComputedStyle(document.body).backgroundColor")
    ink = live.value("getComputedStyle(document.body).color")
    assert contrast(paper, ink) >= 7
    assert (luminance(paper) < luminance(ink)) is dark
    live.picture(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000


def luminance(color: str) -> float:
    """Relative luminance of rgb(r, g, b), as WCAG 2 defines it."""
    parts = [int(part) / 255 for part in color[4:-1].split(",")]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_screen_reader_is_told_all_of_it(live: Page) -> None:
    live.until("!!document.querySelector('#accuracy svg')")
    live.value("document.querySelectorAll('details').forEach(d => d.open = true)")
    told = live.told()
    roles = [role for role, _ in told]
    for role in ("banner", "navigation", "main", "status"):
        assert roles.count(role) == 1, role
    headings = [name for role, name in told if role == "heading"]
    assert headings[0] == "vicinal, live" and "Defended against undefended" in headings
    pictures = [name for role, name in told if role in ("image", "img", "graphics-document")]
    assert len(pictures) >= 5 and all(pictures)
    tables = [name for role, name in told if role == "table"]
    assert len(tables) >= 6 and all(tables)
    named_roles = {"link", "button", "textbox", "region", "DisclosureTriangle"}
    assert [role for role, name in told if role in named_roles and not name] == []


def test_the_operator_enters_a_token(opened: ClientConnection, tmp_path: Path) -> None:
    scene = make_scene(tmp_path)
    with (
        Endpoint(scene.service(), gates=[make_gate(scene, KEYS)]) as server,
        GatewayProcess(tmp_path, server.address) as gateway,
    ):
        page = Page(opened).open(f"http://localhost:{gateway.port}/")
        page.until("document.getElementById('enter') && !document.getElementById('enter').hidden")
        assert page.value("document.getElementById('all').hidden") is True
        for token, hidden in (
            (KEYS.token(range(9), days=1), True),
            (KEYS.operator_token(days=1), False),
        ):
            page.value("document.getElementById('state').textContent = ''")
            page.value("document.getElementById('token').focus()")
            page.type(token)
            page.value("document.querySelector('#enter button').click()")
            page.until("document.getElementById('state').textContent")
            assert page.value("document.getElementById('all').hidden") is hidden
        assert page.value("document.getElementById('token').value") == ""
        assert page.value("localStorage.length + sessionStorage.length") == 0


def test_the_api_page_is_drawn_from_openapi(
    opened: ClientConnection, gateway: GatewayProcess
) -> None:
    page = Page(opened).open(f"http://localhost:{gateway.port}/docs")
    page.until("document.querySelectorAll('#calls section').length >= 4")
    text = page.value("document.body.innerText")
    assert "POST /v1/recommend" in text and "RecommendRequest" in text
    page.size(375)
    assert page.until("window.innerWidth === 375")
    assert page.value("document.documentElement.scrollWidth") <= 375
    assert [each for each in page.complaints if "favicon" not in each] == []
