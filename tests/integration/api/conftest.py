"""A project with the API, and requests to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client

from django_durable.testing import environment
from django_durable.testing.environments import Environment
from tests.integration.api.requests import Requests

API = {
    "AUTH": "tests.flows.doorkeeping.Key",
    "FILTER": "tests.flows.doorkeeping.own_runs",
    "START": "tests.flows.doorkeeping.stamp",
    "PERMISSION": "tests.flows.doorkeeping.staff_only",
    "MAX_WAIT_SECONDS": 0.2,
    "STREAM_SECONDS": 0.2,
}


@pytest.fixture(autouse=True)
def configure(settings: Any) -> Callable[..., None]:
    """Change options of the API: ``configure(AUTH=None)``."""

    def change(**values: Any) -> None:
        settings.DURABLE = {**settings.DURABLE, "API": {**settings.DURABLE["API"], **values}}

    settings.ROOT_URLCONF = "tests.integration.api.urls"
    settings.DURABLE = {"API": dict(API)}
    return change


@pytest.fixture
def env(db: None) -> Iterator[Environment]:
    with environment() as one:
        yield one


def _as(who: str) -> Requests:
    return Requests(Client(raise_request_exception=False, headers={"Authorization": f"Bearer {who}"}))


@pytest.fixture
def red() -> Requests:
    """A customer."""
    return _as("red")


@pytest.fixture
def blue() -> Requests:
    """Another one."""
    return _as("blue")


@pytest.fixture
def staff() -> Requests:
    return _as("staff")


@pytest.fixture
def nobody() -> Requests:
    return _as("somebody")
