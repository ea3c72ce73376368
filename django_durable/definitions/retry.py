"""How often and when a failed activity is tried again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django_durable.exceptions import ApplicationError, DefinitionError, FailureError, ForeignWrite, PayloadError

logger = logging.getLogger("django_durable")

ErrorKind = type[BaseException] | str
"""An exception class (its subclasses count too), or the name of one, or the ``type`` of an ``ApplicationError``."""


Predicate = Callable[[BaseException], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A retry policy.

    After the n-th failed attempt the activity waits ``initial_interval * backoff ** (n - 1)``, at most
    ``max_interval``. With ``jitter`` the pause is a random part of that ("full jitter", which spreads a crowd of
    clients best: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """

    max_attempts: int | None = field(default=6, kw_only=False)
    """Attempts in all, the first included; None: without end."""
    initial_interval: timedelta = timedelta(seconds=1)
    backoff: float = 2.0
    max_interval: timedelta = timedelta(seconds=60)
    jitter: bool = True
    retryable: Iterable[ErrorKind] = ()
    """Only these are tried again; empty: everything is."""
    non_retryable: Iterable[ErrorKind] = ()
    """These are never tried again, even if they are ``retryable`` as well."""
    when: Predicate | None = None
    """Asked last: whether this very error is worth another attempt."""

    def __post_init__(self) -> None:
        _check_numbers(self)
        object.__setattr__(self, "retryable", _kinds(self.retryable, "retryable"))
        object.__setattr__(self, "non_retryable", _kinds(self.non_retryable, "non_retryable"))
        if self.when is not None and not callable(self.when):
            raise DefinitionError(f"Retry: when must be a function of the error, not {self.when!r}.")

    def delay(self, attempt: int, random: Callable[[], float]) -> timedelta:
        """The pause after the ``attempt``-th failed attempt. ``random`` gives numbers from 0 up to 1."""
        try:
            pause = min(self.initial_interval * self.backoff ** (attempt - 1), self.max_interval)
        except OverflowError:
            pause = self.max_interval
        return pause * random() if self.jitter else pause

    def allows(self, error: BaseException, failed_attempts: int) -> bool:
        """Whether there is another attempt after ``failed_attempts`` of which the last raised ``error``."""
        if self.max_attempts is not None and failed_attempts >= self.max_attempts:
            return False
        if isinstance(error, PayloadError | ForeignWrite):  # the same would be refused again
            return False
        if isinstance(error, ApplicationError) and error.non_retryable:
            return False
        if _is_one_of(error, self.non_retryable):
            return False
        if self.retryable and not _is_one_of(error, self.retryable):
            return False
        return self._wants(error)

    def _wants(self, error: BaseException) -> bool:
        if self.when is None:
            return True
        try:
            return bool(self.when(error))
        except Exception:
            # A predicate that fails has not said no, and must not hide the error that it was asked about.
            logger.exception("Retry(when=%r) raised for %r; the attempt is counted as worth another.", self.when, error)
            return True


def _check_numbers(policy: Retry) -> None:
    attempts: Any = policy.max_attempts
    if attempts is not None and (not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1):
        raise DefinitionError(
            f"Retry: max_attempts counts the first attempt, so it is 1 or more, or None for no limit; not {attempts!r}."
        )
    for name in ("initial_interval", "max_interval"):
        interval: Any = getattr(policy, name)
        if not isinstance(interval, timedelta) or interval < timedelta(0):
            raise DefinitionError(f"Retry: {name} must be a timedelta of zero or more, not {interval!r}.")
    if policy.max_interval < policy.initial_interval:
        raise DefinitionError(
            f"Retry: max_interval ({policy.max_interval}) is shorter than initial_interval "
            f"({policy.initial_interval}). Raise max_interval too."
        )
    backoff: Any = policy.backoff
    if not isinstance(backoff, int | float) or isinstance(backoff, bool) or not 1 <= backoff < float("inf"):
        raise DefinitionError(f"Retry: backoff must be a number of at least 1, not {backoff!r}.")
    if not isinstance(policy.jitter, bool):
        raise DefinitionError(f"Retry: jitter must be True or False, not {policy.jitter!r}.")


def _kinds(given: Any, name: str) -> tuple[ErrorKind, ...]:
    if isinstance(given, str | type):
        raise DefinitionError(f"Retry: {name} must be a list of exception classes or names: [{given!r}].")
    kinds = tuple(given)
    for kind in kinds:
        if not isinstance(kind, str) and not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise DefinitionError(f"Retry: {name} may have exception classes and their names only, not {kind!r}.")
    return kinds


def _is_one_of(error: BaseException, kinds: Iterable[ErrorKind]) -> bool:
    return any(kind in _names(error) if isinstance(kind, str) else isinstance(error, kind) for kind in kinds)


def _names(error: BaseException) -> set[str]:
    """Every name by which a policy may call this error: of its classes, short and full, and its own type.

    What an activity or a child has failed with is known by its type alone.
    """
    classes = type(error).__mro__
    names = {kind.__name__ for kind in classes} | {f"{kind.__module__}.{kind.__qualname__}" for kind in classes}
    if isinstance(error, ApplicationError | FailureError) and error.type:
        names.add(error.type)
    return names
