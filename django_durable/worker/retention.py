"""What a worker does about workflows that have been kept for long enough: a little at a time, between other sweeps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from django.db import ProgrammingError

from django_durable import conf
from django_durable.client import pruning
from django_durable.client.pruning import Rules
from django_durable.exceptions import DurableError
from django_durable.store import clock, leases, partitions
from django_durable.store.pruning import Place

logger = logging.getLogger("django_durable.worker")

ROUND_SECONDS = 5.0  # of work, then other sweeps have their turn
PARTS_SECONDS = 3_600.0  # between two looks at the parts of the table of events, if it has any


class Retention:
    """Deletes what has been kept for long enough. It remembers how far it has looked."""

    def __init__(self) -> None:
        self._marks: dict[tuple[str, str], Place] = {}
        self._next = ""  # the workflow at which the last round was interrupted
        self._parts_at = 0.0

    def round(self, worker: int, *, enough: Callable[[], bool] = lambda: False) -> bool:
        """Work for some seconds, or until ``enough()``. True: there is more to do.

        Of each workflow only the first of the live workers that have it takes care; two at a time would do no harm.
        """
        until = time.monotonic() + ROUND_SECONDS

        def is_over() -> bool:
            return enough() or time.monotonic() >= until

        self._keep_up_parts()
        pruning.clear(is_over)
        names = leases.led_by(worker, pruning.names())
        for name in sorted(names, key=lambda name: (name < self._next, name)):  # all of them have their turn
            if self._prune(name, is_over):
                self._next = name
                return True
        return False

    def _keep_up_parts(self) -> None:
        if time.monotonic() < self._parts_at:
            return
        self._parts_at = time.monotonic() + PARTS_SECONDS
        try:
            for part in partitions.keep_up(datetime.now(UTC)):
                logger.info("Dropped %s: no run of its month is left.", part)
        except ProgrammingError as error:  # usually: the table belongs to somebody else
            logger.error("Parts of the table of events have to be added by manage.py durable_partition: %s", error)

    def _prune(self, name: str, is_over: Callable[[], bool]) -> bool:
        """True: it was interrupted."""
        setting = conf.current().RETENTION_EXPORT
        export = Path(setting) if setting else None
        rules = Rules(now=clock.read())
        gone = 0
        try:
            for families in pruning.expired(name, rules, marks=self._marks):
                gone += len(pruning.delete(families, export=export))
                pruning.clear(is_over)
                if is_over():
                    return True
            for run_ids in pruning.continued(name, rules, marks=self._marks):
                pruning.shorten(run_ids, export=export)
                pruning.clear(is_over)
                if is_over():
                    return True
        except (OSError, DurableError) as error:
            self._marks.clear()
            logger.error("Ended runs of %s are kept, because they could not be exported: %s", name, error)
        finally:
            if gone:
                logger.info("Pruned %d ended workflows %s.", gone, name)
        return False
