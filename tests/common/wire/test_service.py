"""The contract's constants: what is fixed by others, and which numbers have to go together."""

from client.link import channel
from common.wire.messages import MAX_NEIGHBORS
from common.wire.service import (
    LEAST_PING_SECONDS,
    MAX_ANSWER_BYTES,
    MAX_REPORT_AGE_SECONDS,
    MAX_TOKEN_LENGTH,
    REPORT_KEY_SECONDS,
    SERVICE_NAME,
    TOKEN_KEY,
    TOKEN_SCHEME,
    pushback,
)
from server.front.endpoint import MAX_METADATA_BYTES
from server.workers.frames import MAX_RESULT_BYTES


def test_names_that_others_fixed() -> None:
    assert SERVICE_NAME == "vicinal.v1.Offload"
    assert (TOKEN_KEY, TOKEN_SCHEME) == ("authorization", "Bearer ")
    assert pushback(0.0301) == ("grpc-retry-pushback-ms", "31"), "never too early"


def test_what_one_end_does_the_other_allows() -> None:
    assert MAX_REPORT_AGE_SECONDS < REPORT_KEY_SECONDS
    assert channel.KEEPALIVE_SECONDS >= LEAST_PING_SECONDS
    assert len(TOKEN_KEY + TOKEN_SCHEME) + MAX_TOKEN_LENGTH < MAX_METADATA_BYTES
    assert 256 * MAX_NEIGHBORS <= MAX_ANSWER_BYTES < MAX_RESULT_BYTES
