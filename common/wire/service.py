"""What both ends of the Offload service have to agree on besides its messages.

docs/protocol.md says what each is for.
"""

from math import ceil
from typing import Final

from common.wire.offload_pb2 import DESCRIPTOR

SERVICE_NAME: Final = DESCRIPTOR.services_by_name["Offload"].full_name

# Requests are small: the largest is a report, a few bytes per watched item.
MAX_REQUEST_BYTES: Final = 1 << 20
# A neighborhood of the most rows allowed, with 64 floats a row, is 16 MiB.
MAX_ANSWER_BYTES: Final = 64 << 20

# How a call shows its bearer token; servers take the scheme in any case.
TOKEN_KEY: Final = "authorization"
TOKEN_SCHEME: Final = "Bearer "
MAX_TOKEN_LENGTH: Final = 1024

# Milliseconds after which a refused caller may try again; the name is gRPC's own.
PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"

# Says with RESOURCE_EXHAUSTED that waiting is no use today, and that the server's own answer is.
BUDGET_REFUSAL: Final = ("vicinal-refusal", "budget")

# A fetch may take a second more for so many bytes: a slower stream is given up by both.
LEAST_BYTES_PER_SECOND: Final = 64 << 10
# Devices may ask at most so often whether the server is still there; who does it more often is
# disconnected.
LEAST_PING_SECONDS: Final = 10

# A report is of so many users at most: more would let one report outweigh others, and fewer say
# more about each of them and cost more calls.
USERS_PER_REPORT: Final = 25
# A server remembers the key of a report for so long, and a device gives the report up before, so
# that none is counted twice.
REPORT_KEY_SECONDS: Final = 30 * 86_400
MAX_REPORT_AGE_SECONDS: Final = 14 * 86_400


def pushback(seconds: float) -> tuple[str, str]:
    """The trailing metadata that ask a caller to come back after so long.

    >>> pushback(0.25)
    ('grpc-retry-pushback-ms', '250')
    """
    return PUSHBACK_KEY, str(ceil(1000 * seconds))
