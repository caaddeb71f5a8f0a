"""Messages of the server app: made, measured, and read."""

import re
from typing import Any, Final

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from common.wire.fleet import MODEL, PAYLOAD

_RAISED: Final = re.compile(r"^[\w.]*(?:Error|Exception): .+$", re.MULTILINE)
_MAX_REASON: Final = 500
_MAX_TRACEBACK: Final = 1 << 16


def message_to(
    node: int, kind: str, payload: bytes, *, group: str = "", model: ArrayRecord | None = None
) -> Message:
    """A message for one client's handler `kind`, with the serialized contract in it.

    group  what the message is about; its reply bears it too
    """
    content = RecordDict({PAYLOAD: ConfigRecord({PAYLOAD: payload})})
    if model is not None:
        content[MODEL] = model
    return Message(content, node, kind, group_id=group)


def payload_of(message: Message) -> object:
    """What a message carries, unchecked; None when it carries nothing of ours."""
    record = message.content.config_records.get(PAYLOAD)
    return None if record is None else record.get(PAYLOAD)


def byte_count(message: Message) -> int:
    """Of all records of a message; an error has none."""
    if not message.has_content():
        return 0
    # One may stand there under many names.
    records = message.content.values()
    sizes = {id(each): _record_bytes(each) for each in {id(one): one for one in records}.values()}
    return sum(sizes[id(each)] for each in records)


def _record_bytes(record: ArrayRecord | ConfigRecord | MetricRecord) -> int:
    """As the record counts them; a ConfigRecord of Flower 1.41 raises at a value that is empty."""
    if not isinstance(record, ConfigRecord):
        return record.count_bytes()
    return sum(len(key) + _value_bytes(value) for key, value in record.items())


def _value_bytes(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(_value_bytes, value))
    if isinstance(value, str | bytes):
        return len(value)
    return 1 if isinstance(value, bool) else 8


def reason(reply: Message) -> str:
    """Why a client failed, in one line."""
    text = (reply.error.reason or "no reason given")[-_MAX_TRACEBACK:]
    # Ray sends a traceback, in which Flower's own exception comes last and says nothing new.
    raised = [match for match in _RAISED.findall(text) if "ClientAppException" not in match]
    found = raised[-1] if raised else " ".join(text.split())
    plain = "".join(each if each.isprintable() else " " for each in found[:_MAX_REASON])
    return f"error {reply.error.code}: {plain}"


def failure_line(failure: dict[str, Any]) -> str:
    """One line on who failed and why."""
    who = f"client {failure['client']}" if failure["client"] else "no client"
    whose = "" if failure["partition"] is None else f" of partition {failure['partition']}"
    return f"{who}{whose}: {failure['reason']}"
