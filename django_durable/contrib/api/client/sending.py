"""Requests and their answers: sent again if they got none, decoded as their types."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from django_durable.contrib.api.client.errors import ProblemError

T = TypeVar("T")

TIMEOUT = 60.0  # seconds; longer than a server lets anybody wait, unless it is told otherwise
RETRIES = 2  # after the first time
NULL = object()  # in a body: null


class Sender:
    """Sends requests below one address."""

    def __init__(self, http: httpx.Client, *, retries: int) -> None:
        self._http = http
        self._retries = retries

    def get(self, path: str, type: type[T], *, accept: tuple[int, ...] = (), **query: Any) -> T:
        """A read, which may be sent again. ``accept``: statuses beyond 2xx whose document is of that type, too."""
        return self._decode(self._send("GET", path, params=_given(query)), type, accept)

    def post(self, path: str, type: type[T], body: Mapping[str, Any] | None = None, *, key: str | None = None) -> T:
        """An act. With an idempotency key it is sent again if there was no answer."""
        headers = {"Idempotency-Key": key} if key is not None else {}
        if body is None:
            return self._decode(self._send("POST", path, headers=headers, again=key is not None), type)
        content = msgspec.json.encode(_given(body))
        headers["Content-Type"] = "application/json"
        return self._decode(self._send("POST", path, content=content, headers=headers, again=key is not None), type)

    def lines(self, path: str, *, headers: Mapping[str, str], **query: Any) -> Iterator[str]:
        """The lines of a stream; none if there is nothing to come. Raises ``ProblemError``."""
        with self._http.stream("GET", path, params=_given(query), headers=dict(headers)) as answer:
            if answer.status_code >= 400:
                answer.read()
                raise _problem(answer)
            yield from answer.iter_lines()

    def _send(self, method: str, path: str, *, again: bool = True, **more: Any) -> httpx.Response:
        left = self._retries if again else 0
        while True:
            try:
                return self._http.request(method, path, **more)
            except httpx.TransportError:
                if left <= 0:
                    raise
                left -= 1

    def _decode(self, answer: httpx.Response, type: type[T], accept: tuple[int, ...] = ()) -> T:
        if answer.status_code >= 300 and answer.status_code not in accept:
            raise _problem(answer)
        return msgspec.json.decode(answer.content, type=type)


def of(workflow_id: str, verb: str) -> str:
    """The address of something of a workflow."""
    return f"workflows/{quote(workflow_id)}/{verb}"


def new_key() -> str:
    """An idempotency key for one thing to do."""
    return str(uuid.uuid4())


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is None, but for ``NULL``; times as text."""
    shown = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}
    return {name: value if value is not NULL else None for name, value in shown.items() if value is not None}


def null(value: T | None) -> Any:
    """``value``, where None is something to say, and what is ``UNSET`` is not."""
    return None if value is msgspec.UNSET else NULL if value is None else value


def _problem(answer: httpx.Response) -> ProblemError:
    return ProblemError.of(answer.status_code, answer.content, retry_after=answer.headers.get("Retry-After"))
