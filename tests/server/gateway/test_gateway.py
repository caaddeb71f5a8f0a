"""A real gateway process in front of a real gRPC server."""

import secrets
import socket
import threading
from pathlib import Path

import grpc
import pytest

from common.wire import offload_pb2 as wire
from common.wire.offload_pb2_grpc import OffloadStub
from server.gateway.pages import FILES
from server.trust.tokens import TokenKeys
from tests.support.gates import bearer
from tests.support.gateways import (
    ITEM_IDS,
    KEYS,
    OWN,
    TITLES,
    GatewayProcess,
    Pair,
    Reply,
    error,
    write_ids,
)
from tests.support.serving import USERS, Endpoint, Misbehaving, make_scene


def list_of(pair: Pair, user: int, preset: str, token: str = OWN) -> list[int]:
    """What gRPC answers for the same user."""
    version = pair.scene.description().version
    with grpc.insecure_channel(pair.server.address) as channel:
        request = wire.RecommendRequest(version=version, user=user, preset=preset)
        reply = OffloadStub(channel).Recommend(request, metadata=bearer(token))
        return list(reply.items)


@pytest.mark.parametrize("preset", ["paper", "vicinal"])
def test_a_list_is_the_one_of_grpc(plain: Pair, preset: str) -> None:
    for user in range(0, USERS, 7):
        reply = plain.gateway.recommend(user, preset=preset)
        assert reply.status == 200
        expected = list_of(plain, user, preset)
        assert [item["index"] for item in reply.json["items"]] == expected
        assert [item["id"] for item in reply.json["items"]] == [str(item) for item in expected]
        assert reply.json["version"] == plain.scene.description().version
        assert reply.json["user"] == {"index": user, "id": None}


def test_a_list_by_id_has_ids_and_titles(guarded: Pair) -> None:
    reply = guarded.gateway.recommend("u/4", token=OWN, preset="paper", items=5)
    expected = list_of(guarded, 5, "paper")  # another user's list is another
    items = reply.json["items"]
    assert reply.json["user"] == {"index": 4, "id": "u/4"}
    assert len(items) == 5 and [item["index"] for item in items] != expected[:5]
    for item in items:
        assert item["id"] == ITEM_IDS[item["index"]] and item["title"] == TITLES[item["index"]]


def test_the_server_judges_tokens(guarded: Pair) -> None:
    gateway = guarded.gateway
    without = gateway.recommend(6, preset="paper")
    assert error(without) == (401, "UNAUTHENTICATED")
    assert without.headers["www-authenticate"] == "Bearer"
    forged = TokenKeys({"a": secrets.token_hex(32)}).token(range(10), days=1)
    for token in (forged, "x", KEYS.operator_token(days=1), OWN + "x"):
        assert gateway.recommend(6, token=token, preset="paper").json == without.json
    assert error(gateway.recommend(11, token=OWN, preset="paper")) == (403, "PERMISSION_DENIED")


def test_an_unknown_id_is_told_as_another_user_is(guarded: Pair) -> None:
    another = guarded.gateway.recommend("u/12", token=OWN, preset="paper")
    unknown = guarded.gateway.recommend("u/4x", token=OWN, preset="paper")
    assert another.status == 403 and another.body == unknown.body


def test_rates_are_the_servers(guarded: Pair) -> None:
    first = guarded.gateway.recommend(7, token=OWN, preset="paper")
    again = guarded.gateway.recommend("u/7", token=OWN, preset="paper")
    assert first.status == 200 and error(again) == (429, "RESOURCE_EXHAUSTED")
    assert again.json["retry_after_ms"] > 100_000
    assert int(again.headers["retry-after"]) >= again.json["retry_after_ms"] / 1000


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer a b"},
        {"Authorization": "Bearer " + "a" * 1025},
        {"Authorization": "Bearer t\u00e9"},
    ],
)
def test_what_is_no_bearer_token_is_refused(plain: Pair, headers: dict[str, str]) -> None:
    reply = plain.gateway.ask(
        "POST", "/v1/recommend", {"user": 1, "preset": "paper"}, headers=headers
    )
    assert error(reply) == (401, "UNAUTHENTICATED")


def test_two_tokens_are_refused(plain: Pair) -> None:
    body = b'{"user":1,"preset":"paper"}'
    head = (
        b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a\r\n"
        b"Authorization: Bearer b\r\nContent-Type: application/json\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    assert plain.gateway.said(head + body).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"user": 1.5}',
        b'{"user": true}',
        b'{"user": -1}',
        b'{"user": 4294967296}',
        b'{"user": null}',
        b'{"user": {"$gt": 0}}',
        b'{"user": 1, "items": 0}',
        b'{"user": 1, "items": "3"}',
        b'{"user": 1, "preset": "none"}',
        b'{"user": 1, "presett": "paper"}',
        b'{"user": 1e400}',
        b"[" * 60_000,
        b'{"user": "' + b"a" * 301 + b'"}',
    ],
)
def test_bad_json_is_told_in_a_line(plain: Pair, body: bytes) -> None:
    reply = plain.gateway.ask(
        "POST", "/v1/recommend", body, headers={"Content-Type": "application/json"}
    )
    assert error(reply) == (400, "INVALID_ARGUMENT")
    assert len(reply.body) < 500 and b"constrained" not in reply.body


def test_a_form_of_another_site_is_refused(plain: Pair) -> None:
    # What a browser sends across sites without asking first.
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        reply = plain.gateway.ask(
            "POST", "/v1/recommend", b'{"user":1,"preset":"paper"}', headers={"Content-Type": kind}
        )
        assert error(reply) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/recommend", 405),
        ("DELETE", "/v1/health", 405),
        ("TRACE", "/v1/health", 405),
        ("GET", "/v1", 404),
        ("GET", "/v1/health/", 404),
        ("GET", "//v1/health", 404),
        ("GET", "/../v1/health", 404),
        ("GET", "/files/../docs.js", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("GET", "/docs.js%00.css", 404),
        ("GET", "/..%5c..%5cdocs.js", 404),
        ("GET", "/app.py", 404),
    ],
)
def test_other_paths_and_methods(plain: Pair, method: str, path: str, status: int) -> None:
    reply = plain.gateway.ask(method, path)
    assert reply.status == status
    assert error(reply)[1] in ("NOT_FOUND", "METHOD_NOT_ALLOWED")


def test_every_answer_has_the_headers(plain: Pair) -> None:
    for method, path in (("GET", "/docs"), ("GET", "/x"), ("GET", "/v1/health"), ("PUT", "/docs")):
        headers = plain.gateway.ask(method, path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers and "access-control-allow-origin" not in headers
    broken = plain.gateway.said(b"\x16\x03\x01 nonsense\r\n\r\n")
    assert broken.startswith(b"HTTP/1.1 400 ") and b"nosniff" in broken
    assert broken.endswith(b"}\n")


def test_the_pages_load_nothing_from_elsewhere(plain: Pair) -> None:
    for path in FILES:
        text = plain.gateway.ask("GET", path).body.decode()
        text = text.replace("http://www.w3.org/2000/svg", "")  # a name, and no address
        assert "http:" not in text and "https:" not in text and "innerHTML" not in text
        assert "//cdn" not in text and "style=" not in text and "onclick" not in text
    paths = plain.gateway.ask("GET", "/openapi.json").json["paths"]
    assert {"/v1/recommend", "/v1/health", "/v1/versions"} <= set(paths)


def test_a_name_that_leads_here_is_refused(plain: Pair) -> None:
    for host in ("evil.example", "evil.example:80", "localhost.evil.example", ""):
        reply = plain.gateway.ask("GET", "/v1/health", headers={"Host": host})
        assert error(reply) == (421, "MISDIRECTED")
    for host in ("localhost", "127.0.0.1:9", "[::1]:80"):
        assert plain.gateway.ask("GET", "/v1/health", headers={"Host": host}).status == 200


@pytest.mark.slow
def test_origins_read_only_where_they_are_named(plain: Pair, tmp_path: Path) -> None:
    origin = {"Origin": "https://shop.example"}
    asked = {**origin, "Access-Control-Request-Method": "POST"}
    assert plain.gateway.ask("OPTIONS", "/v1/recommend", headers=asked).status == 405
    arguments = ("--allow-origin", "https://shop.example")
    with GatewayProcess(tmp_path, plain.server.address, *arguments) as gateway:
        allowed = gateway.ask("OPTIONS", "/v1/recommend", headers=asked)
        assert allowed.status == 200
        assert allowed.headers["access-control-allow-origin"] == "https://shop.example"
        assert "access-control-allow-credentials" not in allowed.headers
        other = gateway.ask("GET", "/v1/health", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


def test_versions_say_what_is_served(guarded: Pair) -> None:
    told = guarded.gateway.ask("GET", "/v1/versions").json
    description = guarded.scene.description()
    assert told["version"] == description.version and told["users"] == USERS
    assert {each["name"] for each in told["presets"]} == {"paper", "vicinal", "crowd"}
    assert [each["version"] for each in told["seen"]] == [description.version]


@pytest.mark.slow
def test_a_server_that_is_gone_and_comes_back(tmp_path: Path) -> None:
    scene = make_scene(tmp_path)
    with Endpoint(scene.service()) as server:
        port = server.port
        with GatewayProcess(tmp_path, server.address) as gateway:
            assert gateway.recommend(3, preset="paper").status == 200
            server.drain()
            away = gateway.recommend(3, preset="paper")
            assert error(away) == (503, "UNAVAILABLE") and away.headers["retry-after"] == "1"
            assert gateway.ask("GET", "/v1/health").status == 503
            # Another version, whose name the gateway has still to learn.
            later = make_scene(tmp_path, seed=1)
            with Endpoint(later.service(), port=port):
                while (reply := gateway.recommend(3, preset="paper")).status == 503:
                    pass
                assert reply.json["version"] == later.description().version
            assert gateway.drain() == 0


@pytest.mark.slow
def test_a_drain_lets_requests_end(tmp_path: Path) -> None:
    scene = make_scene(tmp_path)
    begun, go = threading.Event(), threading.Event()

    def before() -> None:
        begun.set()
        go.wait(60)

    replies: list[Reply] = []
    with (
        Endpoint(Misbehaving(scene.service(), before=before)) as server,
        GatewayProcess(tmp_path, server.address) as gateway,
    ):
        idle = gateway.raw()
        idle.sendall(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(1000).startswith(b"HTTP/1.1 200 ")
        asking = threading.Thread(
            target=lambda: replies.append(gateway.recommend(3, preset="paper"))
        )
        asking.start()
        assert begun.wait(60)
        ending = threading.Thread(target=gateway.drain)
        ending.start()
        assert idle.recv(1000) == b""  # an idle connection is ended at once
        go.set()
        asking.join(60)
        ending.join(60)
        assert gateway.process.returncode == 0
    assert [reply.status for reply in replies] == [200]


@pytest.mark.slow
def test_a_map_of_other_items_is_refused(plain: Pair, tmp_path: Path) -> None:
    ids = write_ids(tmp_path / "ids.csv")
    with (
        pytest.raises(AssertionError, match="is a map of other items"),
        GatewayProcess(tmp_path, plain.server.address, "--ids", str(ids)),
    ):
        pass


@pytest.mark.slow
def test_a_map_that_is_put_right_is_read_again(guarded: Pair, tmp_path: Path) -> None:
    ids = write_ids(tmp_path / "ids.csv")
    limits = {"server.gateway.upstream.REFRESH_SECONDS": 0.05}
    arguments = ("--ids", str(ids))
    with GatewayProcess(tmp_path, guarded.server.address, *arguments, limits=limits) as gateway:
        good = ids.read_text()
        ids.write_text(good.replace("b7", "c7"))
        while (reply := gateway.recommend(8, token=OWN, preset="paper")).status in (200, 429):
            pass
        assert error(reply) == (503, "NAMES") and "map of other items" in reply.json["error"]
        ids.write_text(good)
        while gateway.recommend("u/8", token=OWN, preset="paper").status == 503:
            pass


def test_the_live_numbers_are_the_operators(guarded: Pair) -> None:
    gateway = guarded.gateway
    assert error(gateway.ask("GET", "/v1/live")) == (401, "UNAUTHENTICATED")
    assert error(gateway.ask("GET", "/v1/live", token=OWN)) == (403, "PERMISSION_DENIED")
    told = gateway.ask("GET", "/v1/live", token=KEYS.operator_token(days=1)).json
    assert told["metrics"] == "none" and told["points"] == []
    assert [item["title"] for item in told["watched"]] == [TITLES[3], TITLES[17]]


@pytest.mark.slow
def test_metrics_that_are_away_are_told(plain: Pair, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    limits = {"server.gateway.live.SCRAPE_SECONDS": 0.05}
    arguments = ("--server-metrics", port)
    with GatewayProcess(tmp_path, plain.server.address, *arguments, limits=limits) as gateway:
        while gateway.ask("GET", "/v1/live").json["metrics"] != "away":
            pass
        assert gateway.ask("GET", "/v1/health").status == 200
