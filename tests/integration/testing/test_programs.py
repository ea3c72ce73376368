"""Random programs end alike whether they run straight, are replayed at each step, or lose their workers."""

from __future__ import annotations

import pytest

from django_durable.testing.plugin import durable_env
from tests.programs import checking

__all__ = ["durable_env"]

BATCH = 20


@pytest.mark.django_db
@pytest.mark.parametrize("first", range(0, 100, BATCH))
def test_programs_end_alike_however_they_are_run(durable_env, first):
    for seed in range(first, first + BATCH):
        checking.check(durable_env, seed)
