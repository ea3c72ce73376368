"""Workers that die: after a commit, or before or after any statement that they send."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any
from unittest import mock

from django.db import connection

from django_durable import durable, instrumentation
from django_durable.exceptions import DurableError
from django_durable.testing.hands import Hands, Killed

MOST = 9  # of one program: the tenth interruption of an activity is its last
MOST_IN_VAIN = 2  # without anything written in between: runs that kill five workers in a row are parked
COMMIT, ROLLBACK = "RELEASE SAVEPOINT", "ROLLBACK TO SAVEPOINT"  # inside the transaction that a program runs in
AFTER_COMMIT = (0.1, 0.3, 0.6)
AT_STATEMENT = (0.0, 0.003, 0.02)


class Deaths:
    """When the worker dies, by a seed. Once it is dead, nothing of it reaches the database any more."""

    def __init__(self, seed: int) -> None:
        self.count = 0
        self._random = Random(seed)
        self._after_commit = self._random.choice(AFTER_COMMIT)
        self._at_statement = self._random.choice(AT_STATEMENT)
        self._in_vain = 0
        self._works = self._dead = False

    def heard(self, *, runs: int, **_: Any) -> None:
        if runs and not self._dead:
            self._in_vain = 0
            self._perhaps(self._after_commit)

    def execute(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if not self._works or _in_activity():
            return execute(sql, params, many, context)
        if self._dead:
            return self._undo(execute, sql, context)
        if not sql.startswith(COMMIT):
            self._perhaps(self._at_statement / 2)
        result = execute(sql, params, many, context)
        self._perhaps(self._at_statement / 2)
        return result

    def _undo(self, execute: Any, sql: str, context: Any) -> Any:
        """What a dead process has begun, the server rolls back."""
        if sql.startswith(ROLLBACK):
            return execute(sql, None, False, context)
        if sql.startswith(COMMIT):
            execute(sql.replace(COMMIT, ROLLBACK, 1), None, False, context)
        raise Killed

    def work(self, hands: Hands) -> None:
        """The work of a worker, who may die of it."""
        self._works = True
        try:
            _work(hands)
            if self._dead:  # somebody has caught it: no process could
                raise Killed
        finally:
            self._works = self._dead = False

    def _perhaps(self, probability: float) -> None:
        if self.count < MOST and self._in_vain < MOST_IN_VAIN and self._random.random() < probability:
            self.count += 1
            self._in_vain += 1
            self._dead = True
            raise Killed


_work = Hands.work


@contextmanager
def happening(deaths: Deaths) -> Iterator[None]:
    """Inside the block workers die as ``deaths`` will have it."""
    instrumentation.flush_done.connect(deaths.heard, weak=False)
    try:
        with (
            mock.patch.object(Hands, "work", lambda hands: deaths.work(hands)),
            connection.execute_wrapper(deaths.execute),
        ):
            yield
    finally:
        instrumentation.flush_done.disconnect(deaths.heard)


def _in_activity() -> bool:
    try:
        durable.current_activity()
    except DurableError:
        return False
    return True
