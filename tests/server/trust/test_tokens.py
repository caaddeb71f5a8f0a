"""Tokens: who they are for, and everything that makes one worthless."""

import base64
import json
from pathlib import Path

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InputError
from common.wire.service import MAX_TOKEN_LENGTH
from server.trust.tokens import (
    TokenKeys,
    TokenRefusedError,
    add_token_key,
    read_token_keys,
    user_range,
)

SECRET = "s" * 64
NOW = 1_800_000_000.0
DAY = 86_400


def keys_at(now: float, **secrets: str) -> TokenKeys:
    return TokenKeys(secrets or {"first": SECRET}, clock=lambda: now)


def refused(keys: TokenKeys, token: str) -> bool:
    try:
        keys.users(token)
    except TokenRefusedError as error:
        # Why is not said, not even to whoever prints it.
        assert str(error) == ""
        return True
    return False


@pytest.mark.parametrize("users", [range(7, 8), range(100), range(4, 1 << 32)])
def test_a_token_is_for_its_users(users: range) -> None:
    keys = keys_at(NOW)
    assert keys.users(keys.token(users, days=1)) == users


def test_a_token_ends_at_its_expiry_whichever_clock_made_it() -> None:
    token = keys_at(NOW).token(range(1), days=1)
    assert keys_at(NOW + DAY - 1).users(token) == range(1)
    # A server whose clock stands back takes it longer; one that is ahead refuses it sooner.
    assert keys_at(NOW - 30 * DAY).users(token) == range(1)
    for late in (NOW + DAY, NOW + DAY + 1, NOW + 400 * DAY):
        assert refused(keys_at(late), token)


def test_a_token_of_another_key_is_refused() -> None:
    token = keys_at(NOW).token(range(1), days=1)
    assert refused(keys_at(NOW, first="t" * 40), token)
    assert refused(keys_at(NOW, other=SECRET), token)


def test_a_new_key_signs_and_an_old_one_still_verifies() -> None:
    old = keys_at(NOW, old=SECRET).token(range(3), days=1)
    both = keys_at(NOW, new="n" * 40, old=SECRET)
    assert both.users(old) == range(3)
    assert jwt.get_unverified_header(both.token(range(3), days=1))["kid"] == "new"
    assert refused(keys_at(NOW, new="n" * 40), old)


@pytest.mark.parametrize(
    ("payload", "header"),
    [
        ({"sub": "7"}, {"kid": "first"}),
        ({"exp": NOW + 9}, {"kid": "first"}),
        ({"sub": 7, "exp": NOW + 9}, {"kid": "first"}),
        ({"sub": "7-", "exp": NOW + 9}, {"kid": "first"}),
        ({"sub": "9-7", "exp": NOW + 9}, {"kid": "first"}),
        ({"sub": "٧", "exp": NOW + 9}, {"kid": "first"}),
        ({"sub": "7", "exp": "never"}, {"kid": "first"}),
        ({"sub": "7", "exp": True}, {"kid": "first"}),
        ({"sub": "7", "exp": float("nan")}, {"kid": "first"}),
        ({"sub": "7", "exp": NOW + 9, "aud": "others"}, {"kid": "first"}),
        ({"sub": "7", "exp": NOW + 9}, {}),
        ({"sub": "7", "exp": NOW + 9}, {"kid": "FIRST"}),
    ],
)
def test_what_is_signed_but_not_a_token_of_ours_is_refused(
    payload: dict[str, object], header: dict[str, object]
) -> None:
    token = jwt.encode(payload, SECRET, algorithm="HS256", headers=header)
    assert refused(keys_at(NOW), token)


@pytest.mark.parametrize("algorithm", ["none", "HS384", "HS512"])
def test_another_algorithm_is_refused(algorithm: str) -> None:
    secret = "" if algorithm == "none" else SECRET
    payload = {"sub": "7", "exp": NOW + 9}
    token = jwt.encode(payload, secret, algorithm=algorithm, headers={"kid": "first"})
    assert refused(keys_at(NOW), token)


def test_no_changed_claim_passes() -> None:
    keys = keys_at(NOW)
    head, body, mark = keys.token(range(7, 8), days=1).split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    for change in ({"sub": "8"}, {"sub": "0-99"}, {"exp": claims["exp"] + 1}):
        data = json.dumps({**claims, **change}, separators=(",", ":")).encode()
        forged = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
        assert refused(keys, f"{head}.{forged}.{mark}")
    assert keys.users(f"{head}.{body}.{mark}") == range(7, 8)


@given(st.one_of(st.text(max_size=200), st.binary(max_size=200).map(lambda b: b.decode("latin1"))))
def test_noise_is_refused(text: str) -> None:
    assert refused(keys_at(NOW), text)


@pytest.mark.parametrize(
    "header", [b"[" * 700, b'{"alg":' + b"[" * 680, b'{"kid":["first"]}', b"null", b"\xff"]
)
def test_a_hostile_header_is_refused(header: bytes) -> None:
    head = base64.urlsafe_b64encode(header).decode().rstrip("=")
    assert len(head) < MAX_TOKEN_LENGTH
    assert refused(keys_at(NOW), f"{head}.e30.e30")
    assert refused(keys_at(NOW), "a" * (MAX_TOKEN_LENGTH + 1))


def test_a_secret_file_is_private_and_its_keys_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "secret"
    first = add_token_key(path)
    token = read_token_keys(path, clock=lambda: NOW).token(range(7, 8), days=1)
    second = add_token_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [line.split()[0] for line in path.read_text().splitlines()] == [second, first]
    assert read_token_keys(path, clock=lambda: NOW).users(token) == range(7, 8)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "holds no token keys"),
        (b"\xff\xfe", "holds no token keys"),
        (b"name short\n", "line 1: give a key"),
        (b"only-one-word\n", "line 1: give a key"),
        (f"a {SECRET}\na {SECRET}\n".encode(), "line 2: each key's name only once"),
    ],
)
def test_a_file_that_is_no_secret_is_refused(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes(text)
    with pytest.raises(InputError, match=message) as caught:
        read_token_keys(path)
    assert "short" not in str(caught.value) and SECRET not in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        read_token_keys(tmp_path / "absent")


def test_keys_are_not_printed() -> None:
    assert SECRET not in f"{keys_at(NOW)!r}"


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "2-1", "0-4294967296", "1,2", "٣"])
def test_a_range_of_users_is_checked(text: str) -> None:
    with pytest.raises(InputError, match="give one index or a range"):
        user_range(text)
