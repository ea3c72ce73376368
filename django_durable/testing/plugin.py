"""The pytest plugin: the fixture ``durable_env``. Needs pytest-django, whose database fixtures it uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from django_durable.testing.environments import Environment


@pytest.fixture
def durable_env(db: None) -> Iterator[Environment]:
    """An environment around the test, in its transaction or, with ``django_db(transaction=True)``, without one."""
    # Imported here because it loads models, and plugins are imported before Django is set up.
    from django_durable.testing.environments import environment  # noqa: PLC0415

    with environment() as env:
        yield env
