"""A run's progress as server-sent events: one event for each change of its status, until it has ended or time is up.

The id of an event is a digest of what it says. A client that comes back with ``Last-Event-ID`` gets what has changed
since, which is at most the latest status: there is no backlog to keep.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from django_durable.client.reading import WorkflowStatus
from django_durable.contrib.api import options
from django_durable.store import database

CONTENT_TYPE = "text/event-stream"
SCHEMA = {
    "type": "object",
    "properties": {
        "event": {"type": "string", "enum": ["status", "closed"]},
        "id": {"type": "string"},
        "data": {"type": "string", "description": "A WorkflowStatus, as JSON."},
    },
}
"""One event of a stream."""

RETRY_MS = 2_000  # after which a browser comes back when a stream has ended
FIRST_PAUSE = 0.1  # seconds between two looks; longer ones while nothing changes
LONGEST_PAUSE = 1.0
SILENCE_SECONDS = 10.0  # after which a comment shows proxies that the connection is alive

Look = Callable[[], WorkflowStatus]
Show = Callable[[WorkflowStatus], dict[str, Any]]


def response(request: HttpRequest, look: Look, show: Show, *, seconds: float, last_id: str | None) -> HttpResponseBase:
    """The stream of what ``look`` finds, as ``show`` lets it be seen; 204 if the client knows the end already.

    ``last_id``: of the latest event that the client has got. ``seconds``: how long it lasts.
    """
    first = look()
    if first.is_closed and _id_of(show(first)) == last_id:
        return HttpResponse(status=204)  # browsers come back until they are told not to
    looks = _events(first, look, show, seconds=min(seconds, options.current().STREAM_SECONDS), last_id=last_id)
    stream = _paced(looks) if isinstance(request, ASGIRequest) else _blocking(looks)
    answer = StreamingHttpResponse(stream, content_type=CONTENT_TYPE)
    answer["Cache-Control"] = "no-store"
    answer["X-Accel-Buffering"] = "no"  # nginx would keep events back
    return answer


def _events(
    first: WorkflowStatus, look: Look, show: Show, *, seconds: float, last_id: str | None
) -> Iterator[bytes | float]:
    """Pieces of the stream, and between them for how many seconds to wait."""
    began = spoke = time.monotonic()
    pause, status = FIRST_PAUSE, first
    yield f"retry: {RETRY_MS}\n\n".encode()
    while True:
        shown = show(status)
        if (identifier := _id_of(shown)) != last_id:
            last_id, spoke, pause = identifier, time.monotonic(), FIRST_PAUSE
            yield _event(identifier, shown, closed=status.is_closed)
        elif time.monotonic() - spoke > SILENCE_SECONDS:
            spoke = time.monotonic()
            yield b":\n\n"
        if status.is_closed or time.monotonic() + pause > began + seconds:
            return
        yield pause
        pause = min(pause * 1.5, LONGEST_PAUSE)
        status = look()


def _event(identifier: str, shown: dict[str, Any], *, closed: bool) -> bytes:
    data = msgspec.json.encode(shown).decode()
    return f"event: {'closed' if closed else 'status'}\nid: {identifier}\ndata: {data}\n\n".encode()


def _id_of(shown: dict[str, Any]) -> str:
    return hashlib.blake2b(msgspec.json.encode(shown), digest_size=12).hexdigest()


def _blocking(looks: Iterator[bytes | float]) -> Iterator[bytes]:
    for piece in looks:
        if isinstance(piece, bytes):
            yield piece
        else:
            database.release()
            time.sleep(piece)


async def _paced(looks: Iterator[bytes | float]) -> AsyncIterator[bytes]:
    """No thread waits between two looks."""
    while (piece := await sync_to_async(_next)(looks)) is not None:
        if isinstance(piece, bytes):
            yield piece
        else:
            await asyncio.sleep(piece)


def _next(looks: Iterator[bytes | float]) -> bytes | float | None:
    piece = next(looks, None)
    if not isinstance(piece, bytes):
        database.release()
    return piece
