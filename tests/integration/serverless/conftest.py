"""Functions that are invoked as Lambda does it: with events made of what is received from a real queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from django_durable.transports import choice
from tests.integration.serverless.platform import Platform
from tests.integration.transports.conftest import sqs, sqs_process
from tests.integration.transports.servers import SqsServer
from tests.integration.worker.running import COMMITTING, configure, make_worker

__all__ = ["configure", "make_worker", "sqs", "sqs_process"]


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker(COMMITTING)


@pytest.fixture
def platform(sqs: SqsServer, configure: Callable[..., None], transactional_db: None) -> Iterator[Platform]:
    """A queue ``default`` in SQS, and nobody who works but functions."""
    options = {"CLIENT": sqs.options, "PREFIX": "tests"}
    configure(TRANSPORTS={"hints": {"BACKEND": "sqs", "OPTIONS": options}})
    yield Platform(sqs)
    choice.close()
