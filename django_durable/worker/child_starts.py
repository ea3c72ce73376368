"""Starting children whose workflow id was given: on a connection of its own, because the id may be in somebody's hands.

The engine waits for nobody, and a start of a workflow id waits for whoever has just taken that id and not committed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from django.db import DatabaseError, InterfaceError

from django_durable import transports
from django_durable.client import placing
from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.exceptions import DurableError
from django_durable.history import failures, messages
from django_durable.history.failures import Failure
from django_durable.store import database, dispatch, inbox, outages, runs, starts

logger = logging.getLogger("django_durable.worker")

PAUSE = 0.1  # seconds before a start is tried again that somebody is in the way of


class ChildStart(NamedTuple):
    """A start to be made for the run of ``chain_id``, as long as the worker has that under this claim."""

    chain_id: UUID
    epoch: int
    key: str
    new: starts.NewRun
    definition: WorkflowDefinition[..., object]


class ChildStarts:
    """Makes starts, each in one transaction with the answer to the parent: so a start is made once and answered once.

    ``threaded``: in a thread that begins with the first start; else by whoever calls ``work``.
    """

    def __init__(self, worker: int, *, threaded: bool, told: Callable[[UUID], None]) -> None:
        """``told`` is called with each chain that has got an answer."""
        self.threaded = threaded
        self._worker = worker
        self._told = told
        self._waiting: deque[ChildStart] = deque()
        self._bell = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None

    @property
    def waits(self) -> bool:
        return bool(self._waiting)

    def ask(self, start: ChildStart) -> None:
        self._waiting.append(start)
        if self.threaded and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="durable-children", daemon=True)
            self._thread.start()
        self._bell.set()

    def stop(self) -> None:
        self._stopped = True
        self._bell.set()

    def work(self) -> bool:
        """Make the starts that wait; False: none could be made. Raises database errors other than conflicts."""
        made = False
        for _ in range(len(self._waiting)):
            start = self._waiting[0]
            try:
                done = self._make(start)
            except (DatabaseError, InterfaceError) as error:
                if not outages.is_conflict(error):
                    raise
                done = False
            self._waiting.popleft()
            if not done:
                self._waiting.append(start)
            made |= done
        return made

    def _run(self) -> None:
        database.own_connection()
        while not self._stopped:
            self._bell.clear()
            try:
                self.work()
            except Exception as error:
                logger.warning("The start of a child workflow is tried again: %s", error)
                outages.discard()
                time.sleep(PAUSE)
            self._bell.wait(PAUSE if self._waiting else None)
        outages.discard()

    def _make(self, start: ChildStart) -> bool:
        """False: the parent is ending, or somebody has its row."""
        with database.sweeping():
            had = dispatch.shared([start.chain_id])
            if start.chain_id not in had:
                return not dispatch.existing([start.chain_id])
            if had[start.chain_id] != (self._worker, start.epoch):
                return True  # whoever has the parent now makes the start
            if runs.rows().filter(pk=start.new.run_id).exists():
                return True  # an earlier try was committed, and so was its answer
            failure = _start(start)
            inbox.insert([(start.chain_id, messages.ChildStart(key=start.key, failure=failure))])
        if failure is None:
            transports.hint_work(start.new.queue)
        self._told(start.chain_id)
        return True


def _start(start: ChildStart) -> Failure | None:
    try:
        placing.insert(start.new, start.definition)
    except DurableError as error:
        return failures.from_exception(error)
    return None
