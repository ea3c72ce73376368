"""Retry policies as text, for rows; exception classes and functions are kept by name."""

from __future__ import annotations

import logging
import pkgutil
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec

from django_durable.definitions.retry import Predicate, Retry
from django_durable.exceptions import DefinitionError

logger = logging.getLogger("django_durable")

Sign = Callable[[str], str]
Read = Callable[[str], str | None]

_signing: tuple[Sign, Read] = (str, str)


def sign_with(sign: Sign, read: Read) -> None:
    """How names of functions are signed, and read again: ``read`` gives None for what was never signed."""
    global _signing
    _signing = sign, read


class StoredRetry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A policy's fields; durations in seconds."""

    max_attempts: int | None = None
    initial_interval: float = 0.0
    backoff: float = 1.0
    max_interval: float = 0.0
    jitter: bool = True
    retryable: tuple[str, ...] = ()
    non_retryable: tuple[str, ...] = ()
    when: str | None = None
    """Signed: where the predicate is. "": there is none; None: it is the definition's, which no name can find."""

    def policy(self, *, when: Predicate | None) -> Retry:
        """The policy; ``when`` is the predicate that its definition has today."""
        return Retry(
            max_attempts=self.max_attempts,
            initial_interval=timedelta(seconds=self.initial_interval),
            backoff=self.backoff,
            max_interval=timedelta(seconds=self.max_interval),
            jitter=self.jitter,
            retryable=self.retryable,
            non_retryable=self.non_retryable,
            when=when if self.when is None else _found(self.when, when),
        )


_decoder = msgspec.json.Decoder(StoredRetry)


def fields_of(policy: Retry) -> dict[str, Any]:
    """What ``StoredRetry``, and what stores more than a policy, holds of one."""
    return {
        "max_attempts": policy.max_attempts,
        "initial_interval": policy.initial_interval.total_seconds(),
        "backoff": policy.backoff,
        "max_interval": policy.max_interval.total_seconds(),
        "jitter": bool(policy.jitter),
        "retryable": tuple(map(_name, policy.retryable)),
        "non_retryable": tuple(map(_name, policy.non_retryable)),
        "when": _stored(policy.when),
    }


def dump(policy: Retry) -> str:
    return msgspec.json.encode(StoredRetry(**fields_of(policy))).decode()


def load(text: str, *, when: Predicate | None) -> Retry:
    """What ``dump`` has stored; ``when`` is the predicate that its definition has today."""
    return _decoder.decode(text).policy(when=when)


def _name(error: type[BaseException] | str) -> str:
    return error if isinstance(error, str) else error.__name__


def check_predicate(retry: Any, *, before: Retry | None, owner: str) -> None:
    """Refuse a predicate that another process could not find. That of ``before`` it finds in the declaration."""
    if not isinstance(retry, Retry) or retry.when is None or (before is not None and retry.when is before.when):
        return
    if _place_of(retry.when) is None:
        raise DefinitionError(
            f"{owner}: {retry.when!r} cannot be Retry(when=...) in using(), because the next attempt may be in another "
            f"process, which finds functions by their names. Use one at the top level of a module, or the decorator."
        )


def _place_of(when: Predicate) -> str | None:
    """``module:name`` by which any process finds the function; None if there is no such thing."""
    place = f"{getattr(when, '__module__', None)}:{getattr(when, '__qualname__', None)}"
    try:
        return place if pkgutil.resolve_name(place) is when and not place.startswith("__main__:") else None
    except (ImportError, AttributeError, ValueError):
        return None


def _stored(when: Predicate | None) -> str | None:
    place = _place_of(when) if when is not None else ""
    sign, _ = _signing
    return sign(place) if place else place


def _found(stored: str, declared: Predicate | None) -> Predicate | None:
    if not stored:
        return None
    _, read = _signing
    place = read(stored)
    try:
        if place is not None:
            found: Predicate = pkgutil.resolve_name(place)
            return found
    except (ImportError, AttributeError):
        pass
    logger.warning(
        "Retry(when=...) was %s, which is gone; what the definition says is asked instead.", place or "not signed here"
    )
    return declared
