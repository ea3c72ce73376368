"""The activities of programs, and the world outside, which does at its own time what they ask it for.

What an attempt does depends on committed facts only: so an attempt that is lost is repeated as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from django_durable import Retry, durable
from django_durable.client import updating
from django_durable.definitions.update import UpdateOptions
from django_durable.exceptions import AlreadyCompleted, WorkflowClosed
from django_durable.history import events
from django_durable.models import ActivityTask
from django_durable.store import clock, history, runs

ONCE = Retry(max_attempts=1)
PAUSE = Retry(max_attempts=3, initial_interval=timedelta(seconds=2), backoff=1, jitter=False)


@durable.activity(name="programs.say", retry=ONCE)
def say(path: str) -> str:
    return path


@durable.activity(name="programs.stumble", retry=PAUSE)
def stumble(path: str) -> str:
    """Fails in its first attempt."""
    if _failures() == 0:
        raise ConnectionError(path)
    return path


@durable.activity(name="programs.refuse", retry=ONCE)
def refuse(path: str) -> str:
    raise ValueError(path)


@durable.activity(name="programs.slow", retry=ONCE)
def slow(path: str, seconds: float) -> str:
    """Somebody outside completes it."""
    activity = durable.current_activity()
    _world().ask(Errand(path, "complete", activity.workflow_id, activity.token), seconds)
    activity.complete_later()


@durable.activity(name="programs.ask", retry=ONCE)
def ask(path: str, what: str, seconds: float) -> None:
    """Somebody outside is to do ``what`` to this workflow."""
    _world().ask(Errand(path, what, durable.current_activity().workflow_id), seconds)


@durable.activity(name="programs.look", retry=ONCE)
def look(path: str, seconds: float) -> bool:
    """Whether so much time has passed since the first look."""
    return _world().has_passed(durable.current_activity().idempotency_key, seconds)


def _failures() -> int:
    """How often the current activity has failed, as far as that is committed."""
    task = ActivityTask.objects.filter(key=durable.current_activity().idempotency_key).first()
    return task.attempt - task.interruptions - 1 if task is not None else 0


@dataclass(frozen=True, slots=True, order=True)
class Errand:
    """What somebody outside is to do to a workflow. ``path``: the instruction that has asked for it."""

    path: str
    what: str
    workflow_id: str
    token: str = ""

    def run(self, number: int) -> None:
        """Do it as the ``number``-th of all, unless it comes too late."""
        with suppress(WorkflowClosed, AlreadyCompleted):
            match self.what:
                case "signal":
                    durable.signal_workflow(self.workflow_id, self.path)
                case "cancel":
                    durable.cancel_workflow(self.workflow_id, self.path)
                case "update" | "wrong update":
                    message = durable.update(self.path)(self.what == "update")
                    updating.send(self.workflow_id, message, UpdateOptions(update_id=f"{number} {self.path}"))
                case "complete":
                    durable.complete_activity(self.token, self.path)
                case "fulfil":
                    durable.complete_activity(self._callback(), self.path)
                case "break":
                    durable.fail_activity(self._callback(), self.path, type="Broken")

    def _callback(self) -> str:
        """The token of the callback that the instruction has opened last."""
        run = runs.latest(self.workflow_id)
        assert run is not None
        tokens = [
            one.event.token
            for one in history.read([run.pk])[run.pk]
            if isinstance(one.event, events.CallbackOpened) and one.event.name == self.path
        ]
        if not tokens:
            raise AlreadyCompleted("The run that has asked for this is over.")
        return tokens[-1]


class World:
    """Keeps the errands of one run of a program, each once however often it is asked for."""

    def __init__(self) -> None:
        self._asked: set[tuple[str, Errand]] = set()
        self._errands: list[tuple[datetime, Errand]] = []
        self._done = 0
        self._first_looks: dict[str, datetime] = {}

    def ask(self, errand: Errand, seconds: float) -> None:
        asked = durable.current_activity().idempotency_key, errand
        if asked not in self._asked:
            self._asked.add(asked)
            self._errands.append((clock.read() + timedelta(seconds=seconds), errand))

    def has_passed(self, key: str, seconds: float) -> bool:
        now = clock.read()
        return now >= self._first_looks.setdefault(key, now) + timedelta(seconds=seconds)

    @property
    def next_due(self) -> datetime | None:
        """When the next errand is due."""
        return min(due for due, _ in self._errands) if self._errands else None

    def run_errand(self) -> None:
        """Do the one that is due first."""
        first = min(self._errands)
        self._errands.remove(first)
        self._done += 1
        first[1].run(self._done)


_worlds: list[World] = []


@contextmanager
def world() -> Iterator[World]:
    """A world of its own for the program that is run inside the block."""
    _worlds.append(World())
    try:
        yield _worlds[-1]
    finally:
        _worlds.pop()


def _world() -> World:
    return _worlds[-1]
