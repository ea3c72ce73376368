"""Amazon SQS: its queues drive serverless functions, and wake workers that listen.

A message names who is to look and holds nothing else. Each queue of ours has one in SQS, from which one of those who
serve it takes each hint; each worker that listens has one more, for messages to the runs that it has in hand.
"""

from __future__ import annotations

import json
import logging
import math
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from django_durable import conf, transports
from django_durable.exceptions import DefinitionError
from django_durable.store import database, leases, outages
from django_durable.transports.base import Listener, Transport, Wake
from django_durable.transports.listening import ReconnectingListener
from django_durable.transports.sending import NotSent, Sender
from django_durable.transports.sqs_account import FIFO, LONGEST_DELAY, Account, Message

CLOSE_SECONDS = 1.0  # that ``close`` waits for threads that wait for messages; what they still receive they put back

_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,30}")

logger = logging.getLogger("django_durable.transports")


class Hint(NamedTuple):
    """What is sent at most once at a time. ``place``: the name or the URL of a queue in SQS; ``delay`` in seconds."""

    place: str
    body: str
    delay: int = 0


class SqsTransport(Transport):
    """Hints by SendMessageBatch, from a thread of its own, with short time limits."""

    OPTIONS = {
        "CLIENT": {},
        "PREFIX": "durable",
        "QUEUES": {},
        "FIFO": False,
        "CREATE_QUEUES": True,
        "LONG_POLL_SECONDS": 20,
        "TIMEOUT_SECONDS": 2.0,
        "WAIT_SECONDS": 0.0,
    }

    def __init__(self, alias: str, options: Mapping[str, Any]) -> None:
        super().__init__(alias, options)
        self._check("PREFIX", bool(_PREFIX.fullmatch(self.options["PREFIX"])), "1 to 30 letters, digits, '-' and '_'")
        self._check("LONG_POLL_SECONDS", 0 <= self.options["LONG_POLL_SECONDS"] <= 20, "from 0 to 20")
        self.account = Account(
            alias,
            self.options["CLIENT"],
            prefix=self.options["PREFIX"],
            timeout=self.options["TIMEOUT_SECONDS"],
            longest_wait=self.options["LONG_POLL_SECONDS"],
        )
        self._sender: Sender[Hint] = Sender(self._send, name=alias)

    def _check(self, name: str, holds: bool, must_be: str) -> None:
        if not holds:
            raise DefinitionError(
                f"Transport {self.alias!r} cannot work: {name} is {self.options[name]!r}, and must be {must_be}."
            )

    def work(self, queue: str) -> None:
        self._put(self.place_of(queue), {"queue": queue})

    def message(self, worker: int) -> None:
        if self.options["CREATE_QUEUES"]:
            self._put(self.account.name_of_worker(worker), {"worker": worker})

    def later(self, queue: str, seconds: float) -> None:
        """Beyond SQS' longest delay it is left to the database; so it is with FIFO, which delays whole queues only."""
        place, delay = self.place_of(queue), max(0, math.ceil(seconds))
        if delay <= LONGEST_DELAY and not (delay and place is not None and place.endswith(FIFO)):
            self._put(place, {"queue": queue}, delay)

    def listen(self, queues: tuple[str, ...], worker: int, wake: Wake) -> Listener:
        places = sorted({place for place in map(self.place_of, queues) if place is not None})
        own = self.account.name_of_worker(worker) if self.options["CREATE_QUEUES"] else None
        return SqsListener(self, places, own, wake)

    def check(self) -> None:
        self.account.check(self.place_of(conf.current().QUEUES[0]) or "")

    def rest(self, seconds: float) -> None:
        self._sender.rest(seconds)
        self.account.close()

    def close(self) -> None:
        self._sender.close()
        self.account.close()

    def put_back(self, place: str, receipts: Sequence[str]) -> None:
        """Let messages that a function was invoked with be delivered again at once. Raises what boto3 raises."""
        url = self.account.url(place)
        if url is not None:
            self.account.put_back(url, receipts)

    def place_of(self, queue: str) -> str | None:
        """The name or the URL in SQS. None: what nobody asked for, and may not be made."""
        place: str | None = self.options["QUEUES"].get(queue)
        if place is None and (queue != transports.SCHEDULES or self.options["CREATE_QUEUES"]):
            place = self.account.name_of(queue) + (FIFO if self.options["FIFO"] else "")
        return place

    def _put(self, place: str | None, content: Mapping[str, Any], delay: int = 0) -> None:
        if place is None:
            return
        self._sender.put(Hint(place, json.dumps({"durable": 1, **content}), delay))
        if self.options["WAIT_SECONDS"]:
            self._sender.wait_until_sent(self.options["WAIT_SECONDS"])

    def _send(self, hints: list[Hint]) -> None:
        """One queue that does not take its hints keeps no other waiting."""
        places: defaultdict[str, list[Hint]] = defaultdict(list)
        for hint in hints:
            places[hint.place].append(hint)
        unsent, reason = [], None
        for place, some in places.items():
            try:
                self.account.send(place, [Message(hint.body, hint.delay) for hint in some])
            except Exception as error:  # botocore has trees of errors, and none is worse than another here
                unsent += some
                reason = error
        if reason is not None:
            raise NotSent(unsent, reason) from reason


class SqsListener:
    """An ear for each queue. It hears while all of them do."""

    def __init__(self, transport: SqsTransport, places: list[str], own: str | None, wake: Wake) -> None:
        """``own``: the name of the worker's own queue, which lasts as long as this."""
        self._account = transport.account
        self._own = own
        self._wake = wake
        self._lock = threading.Lock()
        self._hears = False
        self._ears: list[QueueEar] = []
        with self._lock:  # an ear may begin to hear before the last one is there
            self._ears = [
                QueueEar(transport, place, self._changed, wake, sweeps=place == own)
                for place in [*places, *([own] if own is not None else [])]
            ]

    @property
    def hears(self) -> bool:
        return self._hears

    def close(self) -> None:
        for ear in self._ears:
            ear.end()
        until = time.monotonic() + CLOSE_SECONDS
        for ear in self._ears:
            ear.join(max(0.0, until - time.monotonic()))
        if self._own is not None:
            self._account.remove(self._own)

    def _changed(self) -> None:
        """An ear has begun to hear, or has ceased to."""
        with self._lock:
            before, self._hears = self._hears, all(ear.hears for ear in self._ears)
            if self._hears and not before:
                self._wake()


class QueueEar(ReconnectingListener):
    """Receives from one queue, again and again, and deletes what it has heard."""

    def __init__(
        self, transport: SqsTransport, place: str, changed: Callable[[], None], wake: Wake, *, sweeps: bool
    ) -> None:
        """``changed`` is called when ``hears`` may have. ``sweeps``: queues of workers that are dead are deleted."""
        self._transport = transport
        self._account = transport.account
        self._place = place
        self._changed = changed
        self._sweeps = sweeps
        super().__init__(wake, name=f"{transport.alias} ({place})")

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def _hear(self) -> None:
        url = self._url()
        if self._sweeps:
            self._sweep()
        self._receive(url, seconds=0)
        self._heard(hint=False)
        while not self._closed.is_set():
            self._receive(url, seconds=self._transport.options["LONG_POLL_SECONDS"])

    def _heard(self, *, hint: bool) -> None:
        super()._heard(hint=hint)
        self._changed()

    def _lost(self, error: Exception) -> None:
        super()._lost(error)
        self._changed()

    def _receive(self, url: str, *, seconds: int) -> None:
        receipts = [one["ReceiptHandle"] for one in self._account.receive(url, seconds=seconds)]
        if self._closed.is_set():
            self._account.put_back(url, receipts)
        elif receipts:
            self._heard(hint=True)
            self._account.delete(url, receipts)

    def _url(self) -> str:
        if self._transport.options["CREATE_QUEUES"]:
            return self._account.make(self._place)
        url = self._account.url(self._place)
        if url is None:
            raise ConnectionError(f"there is no queue {self._place!r}. Create it, or set CREATE_QUEUES")
        return url

    def _sweep(self) -> None:
        """Delete the queues of workers that could not do so themselves."""
        try:
            database.own_connection()
            for worker in leases.known_dead(self._account.workers()):
                self._account.remove(self._account.name_of_worker(worker))
        except Exception as error:  # it may not be allowed to list or delete, and hears all the same
            logger.info("Queues of dead workers are left in SQS: %s", error)
        finally:
            outages.discard()
