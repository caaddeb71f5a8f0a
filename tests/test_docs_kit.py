"""docs/kit: its device computes what ours does, in Node and in a browser."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from common.models import CLOSED_FORM, MODELS
from common.versions.version import Manifest
from sims import kit

KIT = Path(__file__).resolve().parents[1] / "docs" / "kit"
NODE = shutil.which("node")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_node = pytest.mark.skipif(NODE is None, reason="no Node.js on this machine")


def check(path: Path) -> tuple[int, dict[str, Any]]:
    assert NODE is not None
    done = subprocess.run(
        [NODE, str(KIT / "device.js"), str(path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@needs_node
def test_another_languages_device_passes_the_vectors() -> None:
    code, found = check(KIT / "vectors.json")
    assert (code, found["same"], found["answers"]) == (0, 15, 15)
    assert found["largest"] < 1e-6


@pytest.mark.slow
@needs_node
def test_ninety_nine_of_a_hundred_lists_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "vectors.json"
    path.write_text(json.dumps(kit.vectors("synthetic:120x90", tuple(range(50)))))
    code, found = check(path)
    assert code == 0 and found["answers"] == 250
    assert found["same"] >= 248 and found["largest"] < 1e-4


@needs_node
def test_a_device_that_computes_something_else_fails(tmp_path: Path) -> None:
    told = json.loads((KIT / "vectors.json").read_text())
    for one in told["cases"]:
        one["settings"]["proximal_weight"] *= 50
        one["settings"]["unrated_weight"] = 0.9
    path = tmp_path / "vectors.json"
    path.write_text(json.dumps(told))
    code, found = check(path)
    assert code == 1 and found["same"] < found["answers"]


def test_the_vectors_are_what_the_command_prints() -> None:
    told = json.loads((KIT / "vectors.json").read_text())
    found = kit.vectors("synthetic:90x60", (0, 17, 42))
    assert [one["name"] for one in told["cases"]] == [one["name"] for one in found["cases"]]
    for one, other in zip(told["cases"], found["cases"], strict=True):
        assert one["settings"] == other["settings"] and one["manifest"] == other["manifest"]
        for mine, yours in zip(one["answers"], other["answers"], strict=True):
            assert mine["list"] == yours["list"]
            assert mine["scores"] == pytest.approx(yours["scores"], abs=1e-4)


def test_the_page_names_every_field_and_tensor() -> None:
    page = (KIT / "README.md").read_text()
    for name in Manifest.__dataclass_fields__:
        assert f"`{name}`" in page
    for model in {**MODELS, **CLOSED_FORM}.values():
        (row,) = re.findall(rf"^\| {model.name} \|.*$", page, re.MULTILINE)
        cells = [cell.strip() for cell in row.strip("|").split("|")][1:]
        names = ("item_embedding", "input_embedding", "hidden_bias", "item_bias", "user_embedding")
        shapes = {**model.shared_shapes(1000, 7), **model.user_shapes(50, 7)}
        words = {"I": "1000", "d": "7", "k": "50"}
        for name, cell in zip(names, cells, strict=True):
            told = tuple(int(words[part]) for part in cell.split(" × ")) if cell else None
            assert told == shapes.get(name), (model.name, name)


@pytest.fixture
def address() -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(KIT)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/index.html"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_fine_tunes_and_ranks_by_itself(address: str, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path}", "--virtual-time-budget=60000", address]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=180)
    assert "15 of 15 lists are as told." in done.stdout
    assert done.stdout.count("<td>yes</td>") == 15
