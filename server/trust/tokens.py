"""Bearer tokens that bind a device to its users: JSON Web Tokens with HMAC-SHA256.

A secret file holds one key a line, `KEYID SECRET`; the first signs, all verify, so that a new key
can be added before an old one is taken away. A token says `sub` (a user, 7, a range, 0-99, or
`operator`, who gets no package and may read the tally) and `exp`, and names its key.
"""

import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

import jwt

from common.errors import InputError
from common.files import require_secret, write_file
from common.wire.service import MAX_TOKEN_LENGTH

ALGORITHM: Final = "HS256"
# As long as the digest: a shorter key would be the easier thing to guess.
LEAST_SECRET_LENGTH: Final = 32
OPERATOR: Final = "operator"
_LINE: Final = re.compile(r"([A-Za-z0-9_-]{1,32})\s+(\S+)")
_USERS: Final = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10}))?", re.ASCII)


class TokenRefusedError(Exception):
    """A token that is missing, forged, malformed or expired; the caller is not told which."""


@final
class TokenKeys:
    """Keys that sign and verify tokens; nothing of them is shown when this is printed.

    clock  seconds since 1970
    """

    def __init__(self, keys: dict[str, str], *, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock

    def replace(self, keys: dict[str, str]) -> None:
        """Sign and verify with others from now on."""
        self._keys = keys

    def token(self, users: range, *, days: float) -> str:
        """A token for `users`, valid for so many days, signed with the first key.

        Raises InputError for no users and for a time that lies outside the calendar.
        """
        if not users or users.start < 0:
            raise InputError("a token needs users")
        subject = f"{users[0]}" if len(users) == 1 else f"{users[0]}-{users[-1]}"
        return self._signed(subject, days)

    def operator_token(self, *, days: float) -> str:
        """A token for whoever runs the server. Raises as token()."""
        return self._signed(OPERATOR, days)

    def _signed(self, subject: str, days: float) -> str:
        expiry = int(self._clock() + 86_400 * days)
        if not 0 < expiry < 1 << 40:
            raise InputError(f"a token of {days:g} days cannot be made")
        name, key = next(iter(self._keys.items()))
        payload = {"sub": subject, "exp": expiry}
        return jwt.encode(payload, key, algorithm=ALGORITHM, headers={"kid": name})

    def users(self, token: str) -> range:
        """The users whom a token is for. Raises TokenRefusedError, for an operator's too."""
        try:
            return user_range(self._subject(token))
        except InputError:
            raise TokenRefusedError from None

    def of_operator(self, token: str) -> bool:
        """Whether a good token is the operator's. Raises TokenRefusedError for one that is not."""
        return self._subject(token) == OPERATOR

    def _subject(self, token: str) -> str:
        if not 0 < len(token) <= MAX_TOKEN_LENGTH:
            raise TokenRefusedError
        try:
            key = self._keys[jwt.get_unverified_header(token)["kid"]]
            payload = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                # Expiry is judged below, by our own clock.
                options={"require": ["sub", "exp"], "verify_exp": False},
            )
        except (jwt.InvalidTokenError, KeyError, ValueError, TypeError, RecursionError):
            raise TokenRefusedError from None
        expiry = payload["exp"]
        if not isinstance(expiry, int | float) or not expiry > self._clock():
            raise TokenRefusedError
        subject: str = payload["sub"]
        return subject


def is_key(name: object, secret: object) -> bool:
    """Whether a name and a secret are those of a key."""
    match = _LINE.fullmatch(f"{name} {secret}")
    return match is not None and len(match[2]) >= LEAST_SECRET_LENGTH


def user_range(text: str) -> range:
    """`7` or `0-99`. Raises InputError.

    >>> user_range("0-99")
    range(0, 100)
    """
    match = _USERS.fullmatch(text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not first <= last < 1 << 32:
        raise InputError(f"users {text[:80]!r}: give one index or a range, as in 0-99")
    return range(first, last + 1)


def read_token_keys(path: Path, *, clock: Callable[[], float] = time.time) -> TokenKeys:
    """Raises InputError for a file that cannot be read, or that others can; and for other lines."""
    keys = _parse(path, _text(path))
    require_secret(path)
    return TokenKeys(keys, clock=clock)


def add_token_key(path: Path) -> str:
    """Put a new random key first into a file, which is made when it is not there; its name.

    The file is for its owner alone. Raises InputError, OSError.
    """
    before = _text(path) if path.exists() else ""
    known = _parse(path, before) if before else {}
    name = secrets.token_hex(4)
    while name in known:
        name = secrets.token_hex(4)
    write_file(path, f"{name} {secrets.token_urlsafe(LEAST_SECRET_LENGTH)}\n{before}".encode())
    return name


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); "
            "`vicinal token --new-key --secret FILE` makes one"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: holds no token keys") from error


def _parse(path: Path, text: str) -> dict[str, str]:
    keys: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None or not is_key(match[1], match[2]):
            raise InputError(
                f"{path}, line {number}: give a key as its name, a space and a secret of "
                f"{LEAST_SECRET_LENGTH} characters or more"
            )
        if match[1] in keys:
            raise InputError(f"{path}, line {number}: each key's name only once")
        keys[match[1]] = match[2]
    if not keys:
        raise InputError(f"{path}: holds no token keys")
    return keys
