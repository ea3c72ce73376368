"""Random programs on the engine alone: it makes no difference what a worker has in memory, and what it has lost.

``DURABLE_TEST_PROGRAMS`` says how many.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.programs.generating import programs
from tests.programs.simulation import Simulation

COUNT = int(os.environ.get("DURABLE_TEST_PROGRAMS") or 300)


@pytest.mark.timeout(max(300, COUNT // 3))
@settings(max_examples=COUNT, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(program=programs(ties=st.booleans()), seed=st.integers(0, 2**32 - 1))
def test_a_program_has_one_history_however_much_of_it_is_replayed(program, seed):
    with Simulation(program, seed) as straight, Simulation(program, seed, forgetful=True) as forgetful:
        straight.run()
        forgetful.run()
        assert forgetful.histories == straight.histories
        assert forgetful.replies == straight.replies
        straight.check()
        event(f"{len(straight.runs)} runs")
