"""`--track`: what cannot be reached is told before the work, and what it is called."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sims.cli import run
from sims.tracking import places
from tests.support.trackers import free_port

EVALUATE = ["evaluate", "--dataset", "synthetic:60x90", "--attack", "average", "--k", "9"]


def refused(
    word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str] | None = None
) -> str:
    """The line, after which nothing has been computed or written."""
    store = tmp_path / "store"
    words = [*(command or [*EVALUATE, "--store", str(store)]), "--track", word]
    assert run(words) == 2
    assert not store.exists()
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("mlflov", "unknown tracker 'mlflov': did you mean mlflow?"),
        ("mlflow:127.0.0.1:5000", "give the address of an MLflow server, as mlflow:http://"),
        ("mlflow:sqlite:///x.db", "give the address of an MLflow server"),
        ("mlflow:http://[", "give the address of an MLflow server"),
        ("mlflow:http://me:secret@127.0.0.1:1", "MLFLOW_TRACKING_PASSWORD"),
        ("mlflow:mysql://me:secret@127.0.0.1", "give the address of an MLflow server"),
    ],
)
def test_what_is_no_place_is_told(
    word: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(word, tmp_path, capsys)
    assert says in error and "secret" not in error


def test_the_environment_names_the_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "set MLFLOW_TRACKING_URI" in refused("mlflow", tmp_path, capsys)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "databricks")
    assert "MLFLOW_TRACKING_URI=databricks" in refused("mlflow", tmp_path, capsys)
    for address in ("postgresql://me:secret@db/m", "http://me:secret@h:99999", "db:?pw=secret"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        error = refused("mlflow", tmp_path, capsys)
        assert "MLFLOW_TRACKING_URI=…: give the address" in error and "secret" not in error


def test_a_server_that_does_not_answer_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    address = f"mlflow:http://127.0.0.1:{free_port()}"
    assert f"--track {address}: nothing answers there" in refused(address, tmp_path, capsys)
    config = tmp_path / "grid.toml"
    config.write_text('datasets = ["synthetic:60x90"]\nmodels = ["mf"]\nattacks = ["average"]\n')
    folder = tmp_path / "grid"
    refused(address, tmp_path, capsys, ["grid", str(config), "--folder", str(folder)])
    # A run that did not begin is not in its log.
    assert not folder.exists()


@pytest.mark.parametrize("status", [200, 302, 401, 404, 500])
def test_what_is_no_mlflow_is_told_before_the_work(
    status: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for body in (
        b"",
        b"[1]",
        b"<html>\n" * 99,
        b'{"experiment": 3}',
        b"\xff",
        b'{"error_code": []}',
    ):
        with answering(status, body) as address:
            error = refused(f"mlflow:{address}", tmp_path, capsys)
        assert error.startswith(f"vicinal: error: --track mlflow:{address}: ")
        assert len(error) < 400


def test_a_password_in_the_environment_is_in_no_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with answering(302, b"", location="ftp://127.0.0.1") as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address.replace("//", "//me:secret@"))
        error = refused("mlflow", tmp_path, capsys)
    assert f"API request to {address}/api" in error and "secret" not in error


@contextmanager
def answering(status: int, body: bytes, location: str = "") -> Iterator[str]:
    """A server that answers everything alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if location:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("command", ["demo", "simulate", "audit", "certify", "latency"])
def test_every_command_asks_before_it_works(
    command: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([command, "--dataset", "synthetic:60x90", "--track", "mlflow:x"]) == 2
    assert "give the address of an MLflow server" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    file = tmp_path / "file"
    file.touch()
    assert f"--track tensorboard:{file}: " in refused(f"tensorboard:{file}", tmp_path, capsys)
    refused(f"tensorboard:{file / 'below'}", tmp_path, capsys)


def test_a_library_that_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(places.TRACKERS, "tensorboard", "no_such_tracker")
    words = [*EVALUATE, "--store", str(tmp_path / "store")]
    assert run([*words, "--track", "tensorboard"]) == 1
    assert "this needs no_such_tracker" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()
