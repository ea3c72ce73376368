"""Ears that connect anew for as long as their worker lives."""

from __future__ import annotations

import logging
import random
import threading
from abc import ABC, abstractmethod

from django_durable.transports.base import Wake

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between two tries to connect
CLOSE_SECONDS = 3.0  # that ``close`` waits for the thread

logger = logging.getLogger("django_durable.transports")


class ReconnectingListener(ABC):
    """A thread that hears hints over a connection of its own. While that is lost its worker polls more often."""

    def __init__(self, wake: Wake, *, name: str) -> None:
        """``name``: of the transport, for the log. The thread begins at once."""
        self.hears = False
        self._wake = wake
        self._name = name
        self._is_lost = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="durable-listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.end()
        self._thread.join(CLOSE_SECONDS)

    def end(self) -> None:
        """``close``, without waiting for it."""
        self._closed.set()

    @abstractmethod
    def _hear(self) -> None:
        """Connect, and call ``_heard`` for what arrives until ``_closed`` is set. Raises if the connection is lost."""

    def _heard(self, *, hint: bool) -> None:
        """A sign of life has come; ``hint``: something may be new for the worker."""
        if self._is_lost:
            logger.info("Wake-ups by transport %r are heard again.", self._name)
        self.hears, self._is_lost = True, False
        if hint:
            self._wake()

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._closed.is_set():
            try:
                self._hear()
            except Exception as error:  # whatever the client raises: the database is the truth, these are only hints
                if self._closed.is_set():
                    break
                pause = FIRST_PAUSE if self.hears else min(pause * 2, LONGEST_PAUSE)
                self._lost(error)
                self._closed.wait(pause * random.uniform(0.5, 1.0))
        self.hears = False

    def _lost(self, error: Exception) -> None:
        logger.log(
            logging.DEBUG if self._is_lost else logging.WARNING,
            "Wake-ups by transport %r are not heard: %s. This worker looks at the database more often meanwhile, and "
            "tries again; this is said once.",
            self._name,
            str(error).rstrip("."),
        )
        self.hears, self._is_lost = False, True
        self._wake()
