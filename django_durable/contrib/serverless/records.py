"""What is in an event of SQS, and the answer to it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Failures = dict[str, list[dict[str, str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One message. ``queue`` in which something is due; ``place``: the name of the queue in SQS that it came from."""

    message_id: str
    receipt: str
    place: str
    queue: str | None
    """None: the message says nothing that is to be done here."""


class NoHint(ValueError):
    """The body of a message is none of ours."""


def read(record: Mapping[str, Any]) -> Record:
    """One of ``event["Records"]``. Raises ``NoHint``."""
    return Record(
        message_id=record["messageId"],
        receipt=record["receiptHandle"],
        place=record["eventSourceARN"].rpartition(":")[2],
        queue=_queue(record["body"]),
    )


def _queue(body: str) -> str | None:
    try:
        hint = json.loads(body)
    except ValueError as error:
        raise NoHint(str(error)) from error
    if not isinstance(hint, dict) or hint.get("durable") != 1:
        raise NoHint("it is not written by this library")
    queue = hint.get("queue")
    if queue is None and isinstance(hint.get("worker"), int):
        return None
    if not isinstance(queue, str):
        raise NoHint("it names no queue")
    return queue


def failures(message_ids: Iterable[str]) -> Failures:
    """The answer that keeps these messages in their queue; the others are deleted."""
    return {"batchItemFailures": [{"itemIdentifier": one} for one in message_ids]}


def receipts(records: Collection[Record]) -> dict[str, list[str]]:
    """The receipts by the queue in SQS that they are for."""
    places: dict[str, list[str]] = {}
    for record in records:
        places.setdefault(record.place, []).append(record.receipt)
    return places
