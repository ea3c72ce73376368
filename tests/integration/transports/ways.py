"""The ways in which hints travel, each with a real server: what the conformance suite is run on."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import pytest
from django.db import connection

from django_durable.transports import choice, postgres, sqs
from django_durable.transports.sqs_account import Message, batched
from tests.integration.transports.servers import RedisServer, SqsServer
from tests.integration.worker.running import wait_for

PORTION = 50


class Way(ABC):
    """One kind of transport, as a project would have it."""

    caches: Mapping[str, Any] = {}
    """Entries for ``CACHES``."""

    many = 1_000
    """How often a hint comes that comes far too often."""

    @property
    @abstractmethod
    def transports(self) -> Any:
        """The value of ``TRANSPORTS``."""

    @abstractmethod
    def flood(self, queue: str, worker: int, times: int) -> None:
        """Deliver the hint for a queue, and the one for a worker, so many times."""

    @abstractmethod
    def wipe(self) -> None:
        """Take away whatever is under way or kept."""


class Polling(Way):
    """No hints at all."""

    transports = ("polling",)

    def __init__(self, request: pytest.FixtureRequest) -> None:
        pass

    def flood(self, queue: str, worker: int, times: int) -> None:
        pass

    def wipe(self) -> None:
        pass


class Postgres(Way):
    """LISTEN and NOTIFY."""

    transports = ("postgres",)

    def __init__(self, request: pytest.FixtureRequest) -> None:
        if connection.vendor != "postgresql":
            pytest.skip("needs PostgreSQL")

    def flood(self, queue: str, worker: int, times: int) -> None:
        """The payloads differ: of equal notifications in one transaction PostgreSQL delivers one."""
        for channel in (postgres.queue_channel(queue), postgres.worker_channel(worker)):
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_notify(%s, n::text) FROM generate_series(1, %s) n", [channel, times])

    def wipe(self) -> None:
        """End every session that listens."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND query LIKE '%%pg_notify%%' AND pid <> pg_backend_pid()"
            )


class Redis(Way):
    """Publish and subscribe, through the cache ``hints``."""

    transports = {"hints": {"BACKEND": "redis", "OPTIONS": {"CACHE": "hints", "PREFIX": "tests"}}}

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._server: RedisServer = request.getfixturevalue("redis")
        self.caches = {"hints": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": self._server.url}}

    def flood(self, queue: str, worker: int, times: int) -> None:
        self._server.publish(f"tests:queue:{queue}", times)
        self._server.publish(f"tests:worker:{worker}", times)

    def wipe(self) -> None:
        self._server.flush()
        self._server.restart()


class Sqs(Way):
    """Queues of Amazon's, as moto plays them."""

    many = int(os.environ.get("DURABLE_TEST_SQS_HINTS") or 100)  # a thousand take it half a minute

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._server: SqsServer = request.getfixturevalue("sqs")

    @property
    def transports(self) -> Any:
        options = {"CLIENT": self._server.options, "PREFIX": "tests", "LONG_POLL_SECONDS": 1}
        return {"hints": {"BACKEND": "sqs", "OPTIONS": options}}

    def flood(self, queue: str, worker: int, times: int) -> None:
        [transport] = choice.current()
        assert isinstance(transport, sqs.SqsTransport)
        hints = [Message(json.dumps({"durable": 1, "queue": queue}))] * times
        for place in (transport.place_of(queue), transport.account.name_of_worker(worker)):
            url = transport.account.url(place or "")
            assert url is not None
            for some in batched(hints, PORTION):  # moto takes ever longer the more messages wait
                wait_for(lambda: self._server.waiting(url) <= PORTION, "hints to be heard")  # noqa: B023
                transport.account.send(url, some)

    def wipe(self) -> None:
        self._server.empty("tests")


WAYS = [
    *(pytest.param(kind, id=kind.__name__.lower()) for kind in (Polling, Postgres, Redis)),
    pytest.param(Sqs, id="sqs", marks=pytest.mark.sqlite),  # moto costs more than all that is tested with it
]
HEARING = WAYS[1:]
