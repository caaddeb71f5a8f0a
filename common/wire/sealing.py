"""What a server knows of a user itself, sealed for the user's device.

A server may be asked by anybody who has a user's token, or by everybody where it asks for none. So
what says something of the asked user is encrypted with a key that the server and the user's device
have: ChaCha20-Poly1305 (RFC 8439) under a random nonce. The ratings themselves are not sent at all;
they are authenticated with the rest, so that a device whose ratings are others than the server's
cannot open it. A digest of them would say as much to somebody who guesses.
"""

import hashlib
import hmac
import os
from dataclasses import dataclass
from typing import Final, final

from google.protobuf.message import DecodeError
from nacl.bindings import crypto_aead_chacha20poly1305_ietf_decrypt as decrypt
from nacl.bindings import crypto_aead_chacha20poly1305_ietf_encrypt as encrypt
from nacl.exceptions import CryptoError

from common.errors import InputError
from common.ratings import RatingMatrix
from common.wire import offload_pb2 as wire

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
# What an authentication tag adds.
TAG_BYTES: Final = 16


class OtherRatingsError(InputError):
    """Sealed for another user, version or key, or by a server with other ratings of the user."""


def device_key(secret: bytes, user: int) -> bytes:
    """The key of one user's device, of the server's secret for all of them."""
    return hmac.digest(secret, b"vicinal device " + str(user).encode(), "sha256")


@final
@dataclass(frozen=True)
class OwnRow:
    """A user's ratings, 1 × I, as the server or the device has them, and the device's key."""

    ratings: RatingMatrix
    key: bytes

    def over_items(self, count: int) -> "OwnRow":
        """The same over the items of another version: new ones come after those of before."""
        return OwnRow(self.ratings.over_items(count), self.key)

    def seal(self, own: wire.Own, version: str) -> bytes:
        """Encrypt it for the device, to be opened with the same ratings, key and version."""
        nonce = os.urandom(NONCE_BYTES)
        data = own.SerializeToString()
        return nonce + encrypt(data, self._about(version), nonce, self.key)

    def unseal(self, sealed: bytes, version: str) -> wire.Own:
        """Raises OtherRatingsError, InputError for what no server would seal."""
        nonce, data = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        if len(data) < TAG_BYTES:
            raise InputError("offload package: its sealed part is cut off")
        try:
            opened = decrypt(data, self._about(version), nonce, self.key)
        except CryptoError:
            raise OtherRatingsError(
                "the server's ratings of this user are not those of this device, or it seals for "
                "another key: use the files that `vicinal serve --device-ratings` wrote"
            ) from None
        try:
            return wire.Own.FromString(opened)
        except DecodeError as error:
            raise InputError("offload package: its sealed part is not a message") from error

    def _about(self, version: str) -> bytes:
        ratings = hashlib.sha256(self.ratings.items.tobytes() + self.ratings.levels.tobytes())
        return version.encode() + ratings.digest()
