"""Messages of the server app: made, sent, and matched with their replies.

Flower drops what it cannot deliver and says nothing, so a reply that does not come is only
missing when somebody compares what came with what was sent.
"""

import re
import time
from collections.abc import Iterator
from typing import Final

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from common.errors import VicinalError
from common.wire.fleet import MODEL, PAYLOAD

POLL_SECONDS: Final = 0.05
_RAISED: Final = re.compile(r"^[\w.]*(?:Error|Exception): .+$", re.MULTILINE)


def exchange(
    grid: Grid, messages: list[Message], *, timeout: float
) -> Iterator[tuple[Message, Message]]:
    """Send messages and yield (message, reply) as replies come in.

    Raises VicinalError, after the last reply, when a client replied with an error, a message
    could not be sent, or nothing came for `timeout` seconds while replies were missing.
    """
    accepted = set(grid.push_messages(messages))
    pending = {message.metadata.message_id: message for message in messages}
    problems = [
        f"{_addressee(pending.pop(identity))}: the message could not be sent"
        for identity in list(pending)
        if identity not in accepted
    ]
    deadline = time.monotonic() + timeout
    while pending and time.monotonic() < deadline:
        replies = [r for r in grid.pull_messages(list(pending)) if _answers(r) in pending]
        for reply in replies:
            sent = pending.pop(_answers(reply))
            if reply.has_error():
                problems.append(f"{_addressee(sent)}: {_reason(reply)}")
            else:
                yield sent, reply
        if replies:
            deadline = time.monotonic() + timeout
        elif pending:
            time.sleep(POLL_SECONDS)
    problems += [f"{_addressee(sent)}: no reply in {timeout:g} s" for sent in pending.values()]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise VicinalError(
            f"{len(problems)} of {len(messages)} replies missing: {problems[0]}{more}"
        )


def message_to(node: int, kind: str, payload: bytes, model: ArrayRecord | None = None) -> Message:
    """A message for one client's handler `kind`, with the serialized contract in it."""
    content = RecordDict({PAYLOAD: ConfigRecord({PAYLOAD: payload})})
    if model is not None:
        content[MODEL] = model
    return Message(content, node, kind)


def payload_of(message: Message) -> object:
    """What a message carries, unchecked; None when it carries nothing of ours."""
    record = message.content.config_records.get(PAYLOAD)
    return None if record is None else record.get(PAYLOAD)


def _answers(reply: Message) -> str:
    return reply.metadata.reply_to_message_id


def sender(reply: Message) -> str:
    """Who replied, for an error's text."""
    return f"client {reply.metadata.src_node_id}"


def _addressee(message: Message) -> str:
    return f"client {message.metadata.dst_node_id}"


def _reason(reply: Message) -> str:
    text = reply.error.reason or "no reason given"
    # Ray sends a traceback, in which Flower's own exception comes last and says nothing new.
    raised = [match for match in _RAISED.findall(text) if "ClientAppException" not in match]
    reason = raised[-1] if raised else " ".join(text.split())
    return f"error {reply.error.code}: {reason[:500]}"
