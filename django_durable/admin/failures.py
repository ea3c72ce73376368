"""A stored failure as a page shows it: the exception and, below it, what caused it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from django_durable.admin import excerpts
from django_durable.admin.excerpts import Excerpt
from django_durable.history.failures import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownFailure:
    """One exception of the chain. A failure that cannot be read has its stored text in ``data`` alone."""

    type: str
    message: str = ""
    traceback: str = ""
    data: Excerpt | None = None

    @property
    def summary(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


def chain(failure: Failure) -> list[ShownFailure]:
    """The failure, then its causes."""
    return [
        ShownFailure(
            type=link.type,
            message=link.message,
            traceback=link.traceback,
            data=None if link.data is None else excerpts.of_json(msgspec.json.encode(link.data).decode()),
        )
        for link in _links(failure)
    ]


def stored_chain(stored: str | None) -> list[ShownFailure]:
    """The same for a stored failure; empty for none."""
    if not stored:
        return []
    try:
        return chain(msgspec.json.decode(stored, type=Failure))
    except (msgspec.MsgspecError, RecursionError):
        return [ShownFailure(type="This failure cannot be read", data=excerpts.of_text(stored))]


def _links(failure: Failure | None) -> Iterator[Failure]:
    while failure is not None:
        yield failure
        failure = failure.cause
