"""Readers who open FetchModel and never read: HTTP/2 by hand, so that nothing reads for them.

    python stalled_streams.py ADDRESS VERSION COUNT

opens COUNT streams, each on a connection of its own with a window of 2³¹ − 1 bytes and a receive
buffer as small as the system lets it be, prints a line when every one has got its first bytes, and
holds them until stdin ends. Then it reads them to their ends and prints how each ended, as JSON.
"""

import json
import socket
import struct
import sys
from collections import Counter

from common.wire import offload_pb2 as wire
from sims.http2_calls import Calls, Ended, ProtocolError

METHOD = "/vicinal.v1.Offload/FetchModel"
SECONDS = 3600
