"""Each way to carry hints, with real servers, and real workers that are woken by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from django_durable.transports import choice
from tests.integration.transports.servers import RedisServer, SqsServer
from tests.integration.transports.ways import HEARING, WAYS, Way
from tests.integration.worker.gates import make_gate
from tests.integration.worker.running import COMMITTING, configure, make_worker

__all__ = ["configure", "make_gate", "make_worker"]


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker(COMMITTING)


@pytest.fixture(scope="session")
def redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis(redis_process: RedisServer) -> Iterator[RedisServer]:
    """A Redis that the test may stop, kill and empty."""
    yield redis_process
    redis_process.restore()


@pytest.fixture(scope="session")
def sqs_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqsServer]:
    server = SqsServer(tmp_path_factory.mktemp("sqs") / "moto.log")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def sqs(sqs_process: SqsServer) -> Iterator[SqsServer]:
    """An SQS that has no queue yet."""
    yield sqs_process
    sqs_process.restore()


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, settings: Any, configure: Callable[..., None]) -> Iterator[Way]:
    """The project's transport, each kind in turn."""
    yield from _chosen(request, settings, configure)


@pytest.fixture(params=HEARING)
def hearing(request: pytest.FixtureRequest, settings: Any, configure: Callable[..., None]) -> Iterator[Way]:
    """The project's transport, each kind in turn by which workers hear something."""
    yield from _chosen(request, settings, configure)


def _chosen(request: pytest.FixtureRequest, settings: Any, configure: Callable[..., None]) -> Iterator[Way]:
    way: Way = request.param(request)
    settings.CACHES = {**settings.CACHES, **way.caches}
    configure(TRANSPORTS=way.transports)
    yield way
    choice.close()
