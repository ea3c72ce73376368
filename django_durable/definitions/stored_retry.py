"""Retry policies as text, for rows; exception classes are kept by name, a predicate stays with its definition."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import msgspec

from django_durable.definitions.retry import Retry


class _Stored(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    max_attempts: int | None = None
    initial_interval: float = 0.0
    backoff: float = 1.0
    max_interval: float = 0.0
    jitter: bool = True
    retryable: tuple[str, ...] = ()
    non_retryable: tuple[str, ...] = ()


_decoder = msgspec.json.Decoder(_Stored)


def dump(policy: Retry) -> str:
    stored = _Stored(
        max_attempts=policy.max_attempts,
        initial_interval=policy.initial_interval.total_seconds(),
        backoff=policy.backoff,
        max_interval=policy.max_interval.total_seconds(),
        jitter=policy.jitter,
        retryable=tuple(map(_name, policy.retryable)),
        non_retryable=tuple(map(_name, policy.non_retryable)),
    )
    return msgspec.json.encode(stored).decode()


def load(text: str, *, when: Callable[[BaseException], bool] | None) -> Retry:
    """The policy, with the predicate that its definition has today."""
    stored = _decoder.decode(text)
    return Retry(
        max_attempts=stored.max_attempts,
        initial_interval=timedelta(seconds=stored.initial_interval),
        backoff=stored.backoff,
        max_interval=timedelta(seconds=stored.max_interval),
        jitter=stored.jitter,
        retryable=stored.retryable,
        non_retryable=stored.non_retryable,
        when=when,
    )


def _name(error: type[BaseException] | str) -> str:
    return error if isinstance(error, str) else error.__name__
