"""Hints leave from a thread of their own: who gives one waits for no network."""

from __future__ import annotations

import atexit
import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

QUIET_SECONDS = 0.01  # between two hints to one address: a worker that was just woken looks again by itself
MOST_WAITING = 1_000  # addresses; more than that are left to the polls
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between two tries
EXIT_SECONDS = 1.0  # that the end of a process may wait for its last hints

logger = logging.getLogger("django_durable.transports")

Address = TypeVar("Address", bound=Hashable)


class NotSent(Exception):
    """Raised by a transport that could send some hints. ``addresses``: of the others."""

    def __init__(self, addresses: list[Any], reason: object) -> None:
        super().__init__(str(reason))
        self.addresses = addresses


class Sender(Generic[Address]):
    """Sends to each address once however often it is asked to meanwhile, and tries again for as long as that fails.

    The thread begins with the first hint, so a server that forks before it serves has none to lose.
    """

    def __init__(self, send: Callable[[list[Address]], None], *, name: str) -> None:
        """``send`` sends one hint to each of these addresses, or raises. ``name``: of the transport, for the log.

        It raises ``NotSent`` where some have been sent.
        """
        self._send = send
        self._name = name
        self._closed = False
        self.begin()
        _senders.add(self)

    def begin(self) -> None:
        """Start with nothing: also in a process that has just been forked, whose threads stayed behind."""
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._waiting: dict[Address, None] = {}
        self._sent: dict[Address, float] = {}
        self._is_sending = False
        self._is_failing = False

    def put(self, address: Address) -> None:
        """Send a hint to ``address`` soon. Returns at once."""
        with self._changed:
            if self._closed or (len(self._waiting) >= MOST_WAITING and address not in self._waiting):
                return
            self._waiting[address] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="django-durable-sender", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wait_until_sent(self, seconds: float) -> bool:
        """Wait until all is sent, for ``seconds`` at most, and not while sending fails. Whether all is sent."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_failing or self._has_sent_all(), seconds)
            return self._has_sent_all()

    def close(self) -> None:
        """Send what waits, unless that fails, and end the thread."""
        self.wait_until_sent(EXIT_SECONDS)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(EXIT_SECONDS)

    def rest(self, seconds: float) -> None:
        """As ``close``, waiting for ``seconds`` at most, but the next hint begins a new thread."""
        self.wait_until_sent(seconds)
        with self._changed:
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if thread is not None:
            thread.join(EXIT_SECONDS)

    def _has_sent_all(self) -> bool:
        return not self._waiting and not self._is_sending

    # The sender's thread

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while addresses := self._take():
            try:
                self._send(addresses)
            except Exception as error:  # whatever the client of the transport raises: these are only hints
                self._failed(error.addresses if isinstance(error, NotSent) else addresses, error)
                self._rest(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                self._succeeded(addresses)
                pause = FIRST_PAUSE

    def _take(self) -> list[Address]:
        """What is to be sent now, once there is something. Nothing: this thread is to end."""
        with self._changed:
            while not self._is_over():
                now = time.monotonic()
                turns = {address: self._sent.get(address, 0.0) + QUIET_SECONDS for address in self._waiting}
                ready = [address for address, turn in turns.items() if turn <= now]
                if ready:
                    for address in ready:
                        del self._waiting[address]
                    self._is_sending = True
                    return ready
                self._changed.wait(min(turns.values()) - now if turns else None)
        return []

    def _succeeded(self, addresses: list[Address]) -> None:
        with self._changed:
            if len(self._sent) > MOST_WAITING:
                self._sent.clear()
            self._sent.update(dict.fromkeys(addresses, time.monotonic()))
            if self._is_failing:
                logger.info("Wake-ups by transport %r are sent again.", self._name)
            self._is_sending = self._is_failing = False
            self._changed.notify_all()

    def _failed(self, addresses: list[Address], error: Exception) -> None:
        with self._changed:
            room = max(0, MOST_WAITING - len(self._waiting))  # others may have come meanwhile
            self._waiting.update(dict.fromkeys(addresses[:room]))
            level = logging.DEBUG if self._is_failing else logging.WARNING
            logger.log(
                level,
                "Wake-ups by transport %r cannot be sent: %s. Workers find what there is when they next look; "
                "this is said once.",
                self._name,
                str(error).rstrip("."),
            )
            self._is_sending, self._is_failing = False, True
            self._changed.notify_all()

    def _rest(self, pause: float) -> None:
        with self._changed:
            self._changed.wait_for(self._is_over, pause * random.uniform(0.5, 1.0))

    def _is_over(self) -> bool:
        return self._closed or self._thread is not threading.current_thread()


_senders: weakref.WeakSet[Sender[Any]] = weakref.WeakSet()


def _begin_all() -> None:
    for sender in list(_senders):
        sender.begin()


def _wait_for_all() -> None:
    for sender in list(_senders):
        sender.wait_until_sent(EXIT_SECONDS)


os.register_at_fork(after_in_child=_begin_all)
atexit.register(_wait_for_all)
