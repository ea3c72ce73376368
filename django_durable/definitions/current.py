"""The activity that this thread or task is running."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NoReturn
from uuid import UUID

from django_durable.exceptions import ActivityCancelled, ActivityCompletesLater, DurableError


def _never() -> bool:
    return False


def _no_token() -> str:
    raise DurableError("Nobody can complete this activity from outside: no worker executes it.")


def _beat_in_vain(details: Any) -> None:
    """Nobody takes heartbeats here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentActivity:
    """What an activity may know about its own execution."""

    name: str
    workflow_id: str
    run_id: UUID
    attempt: int
    """Counts from 1; attempts that died with their process count as well."""
    failed_attempts: int = 0
    """Of the attempts before, those that have failed: one that died with its process has not."""
    queue: str = ""
    """The one that it was scheduled in."""
    idempotency_key: str
    """The same on every attempt: give it to services that recognise a repeated request."""
    is_cancelled: Callable[[], bool] = field(default=_never, repr=False, compare=False)
    is_stopping: Callable[[], bool] = field(default=_never, repr=False, compare=False)
    on_heartbeat: Callable[[Any], None] = field(default=_beat_in_vain, repr=False, compare=False)
    on_token: Callable[[], str] = field(default=_no_token, repr=False, compare=False)
    heartbeat_details: Any = None
    """What the last heartbeat of an attempt before has told, as JSON values; None: nothing."""

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more."""
        return self.is_cancelled()

    def heartbeat(self, details: Any = None) -> None:
        """Tell that this attempt lives, and ``details`` for the next one should this one end early.

        Cheap: heartbeats that follow each other closely are written as one. Raises ``ActivityCancelled`` once nobody
        waits for the result any more, ``PayloadError`` for details that cannot be stored.
        """
        self.on_heartbeat(details)
        if self.cancelled:
            raise ActivityCancelled(f"Activity {self.name} of workflow {self.workflow_id} is not waited for any more.")

    @property
    def token(self) -> str:
        """The signed address of this activity, for ``durable.complete_activity()`` and its like.

        Raises ``DurableError`` for an atomic activity.
        """
        return self.on_token()

    def complete_later(self) -> NoReturn:
        """End this call without an outcome: that will come by ``token``. The activity's time limits run on.

        Raises a ``BaseException`` that ends the activity's code.
        """
        self.token  # noqa: B018  so that there is a row that waits for it
        raise ActivityCompletesLater(f"Activity {self.name} is completed later, by its token.")

    @property
    def stopping(self) -> bool:
        """Whether the worker has been told to stop, and waits for its activities to end."""
        return self.is_stopping()


class entered:
    """A block in which ``current_activity()`` gives what ``make()`` does. It is called once, when somebody asks."""

    __slots__ = ("_activity", "_make", "_token")

    def __init__(self, make: Callable[[], CurrentActivity]) -> None:
        self._make = make
        self._activity: CurrentActivity | None = None

    def __enter__(self) -> None:
        self._token = _current.set(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _current.reset(self._token)

    def activity(self) -> CurrentActivity:
        if self._activity is None:
            self._activity = self._make()
        return self._activity


_current: ContextVar[entered | None] = ContextVar("durable_current_activity", default=None)


def find() -> CurrentActivity | None:
    """The activity that is running here, if there is one."""
    block = _current.get()
    return None if block is None else block.activity()


def current_activity() -> CurrentActivity:
    """The activity that is running here. Raises ``DurableError`` outside of one."""
    block = _current.get()
    if block is None:
        raise DurableError(
            "durable.current_activity() was called outside an activity. It works in code that a worker runs as an "
            "activity; threads that such code starts need contextvars.copy_context()."
        )
    return block.activity()
