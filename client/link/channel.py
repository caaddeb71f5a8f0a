"""How a device reaches its server: with which encryption, certificate and token."""

import math
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import grpc

from client.link.handshake import Authority, refusal_of_plaintext, refusal_of_tls
from common.addresses import is_loopback, join_address, split_address
from common.errors import InputError
from common.files import require_secret
from common.tls_files import read_authority, read_identity
from common.wire.service import (
    LEAST_PING_SECONDS,
    MAX_ANSWER_BYTES,
    MAX_TOKEN_LENGTH,
    TOKEN_KEY,
    TOKEN_SCHEME,
)

# A silent server is asked after so long whether it is still there, and has so long to answer.
KEEPALIVE_SECONDS: Final = 3 * LEAST_PING_SECONDS
KEEPALIVE_ANSWER_SECONDS: Final = 10
# A server that does not answer must not cost the patience twice.
ASK_AGAIN_SECONDS: Final = 5.0
_TOKEN: Final = re.compile(rf"[A-Za-z0-9._~+/=-]{{1,{MAX_TOKEN_LENGTH}}}")


@dataclass(frozen=True)
class Access:
    """Files that a device has, and whether it may do without encryption.

    ca           PEM of the authority that signed the server's certificate; None: no encryption
    certificate  PEM, with `key`: for a server that asks devices for one
    token        file with the bearer token
    insecure     no encryption to another machine either
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token: Path | None = None
    insecure: bool = False


@final
class Channel:
    """A gRPC channel to one server, and what goes with every call.

    largest  bytes of a message that is taken

    Raises InputError for an address, a file or a combination that cannot be used.
    """

    def __init__(self, address: str, access: Access, *, largest: int = MAX_ANSWER_BYTES) -> None:
        self._host, self._port = split_address(address)
        self._authority = _authority(access)
        token = None if access.token is None else read_token(access.token)
        _check(self._host, access)
        if access.token is not None:
            require_secret(access.token)
        self.metadata = () if token is None else ((TOKEN_KEY, TOKEN_SCHEME + token),)
        self._ask_again = -math.inf
        target = join_address(self._host, self._port)
        received = ("grpc.max_receive_message_length", min(largest, MAX_ANSWER_BYTES))
        options = (received, *_OPTIONS)
        if self._authority is None:
            self.grpc = grpc.insecure_channel(target, options=options)
        else:
            self.grpc = grpc.secure_channel(target, _credentials(self._authority), options=options)

    def refusal(self) -> str | None:
        """Why server and device do not understand each other, in a few words; None if they do.

        gRPC hides this under UNAVAILABLE. None also when there is nobody to ask, and when that
        was asked a moment ago.
        """
        now = time.monotonic()
        if now < self._ask_again:
            return None
        self._ask_again = now + ASK_AGAIN_SECONDS
        if self._authority is None:
            return refusal_of_plaintext(self._host, self._port)
        return refusal_of_tls(self._host, self._port, self._authority)


def async_channel(address: str, access: Access) -> grpc.aio.Channel:
    """A channel of the running event loop, for a gateway; every call brings its own token.

    Raises InputError as Channel does, and for another machine without encryption.
    """
    host, port = split_address(address)
    authority = _authority(access)
    _check(host, access)
    target = join_address(host, port)
    if authority is None:
        return grpc.aio.insecure_channel(target, options=_OPTIONS)
    return grpc.aio.secure_channel(target, _credentials(authority), options=_OPTIONS)


_OPTIONS: Final = (
    # A proxy meant for the web must not see neighbors' ratings.
    ("grpc.enable_http_proxy", 0),
    # The channel's own pauses between attempts would outlast our patience.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 1000 * KEEPALIVE_SECONDS),
    ("grpc.keepalive_timeout_ms", 1000 * KEEPALIVE_ANSWER_SECONDS),
)


def read_token(path: Path) -> str:
    """Raises InputError, which says nothing of what is inside."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a token") from error
    if _TOKEN.fullmatch(text) is None:
        raise InputError(f"{path}: holds no token (`vicinal token` prints one)")
    return text


def _authority(access: Access) -> Authority | None:
    if (access.certificate is None) != (access.key is None):
        raise InputError("give --certificate and --key together")
    if access.ca is None:
        if access.certificate is not None:
            raise InputError("a certificate is for an encrypted connection: give --ca too")
        return None
    pem = read_authority(access.ca)
    if access.certificate is None or access.key is None:
        return Authority(access.ca, pem)
    identity = read_identity(access.certificate, access.key, "device")
    return Authority(access.ca, pem, identity, (access.certificate, access.key))


def _check(host: str, access: Access) -> None:
    """Raises InputError for what would cross a network without encryption."""
    if access.ca is not None or is_loopback(host):
        return
    if access.token is not None:
        raise InputError(f"{host}: a token must not cross a network without encryption: give --ca")
    if not access.insecure:
        raise InputError(
            f"{host} is another machine, and nothing would be encrypted: give --ca with the "
            "authority of its certificate, or say --insecure"
        )


def _credentials(authority: Authority) -> grpc.ChannelCredentials:
    if authority.identity is None:
        return grpc.ssl_channel_credentials(authority.pem)
    certificate, key = authority.identity
    return grpc.ssl_channel_credentials(authority.pem, key, certificate)
