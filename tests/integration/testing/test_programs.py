"""Random programs have one history whether they run straight, are replayed at each step, or lose their workers.

``DURABLE_TEST_STORED_PROGRAMS`` says how many; ``python -m benchmarks.programs`` runs thousands.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.programs import checking, deaths
from tests.programs.generating import Program, programs

COUNT = int(os.environ.get("DURABLE_TEST_STORED_PROGRAMS") or 8)

RETRIED = ["compensated", ["cancelled", ["gather", [["cancelled", ["stumble"], 1]]], 0]]
"""An activity is given up while it waits for its second attempt."""

AT_WORK = ["cancelled", ["gather", [["slow", 2, "wait"], ["slow", 1, "try"], ["slow", 0, "abandon"], ["poll", 2]]], 1]
"""Activities are given up, in each way, while they are under way."""

AGAIN = ["group", [["child", ["refuse"], 2, "try", "terminate"]]]
"""A child fails in the moment of its start and is tried again, so both its runs are as old."""

BETWEEN = ["cancelled", ["child", ["refuse"], 2, "try", "terminate"], 0]
"""A child is cancelled between its two tries, and whoever asked for it dies before anybody has been told."""

IN_VAIN = ["poll", 9]
"""Looks in vain leave no event: a run is not to be parked because workers die after each of them."""


@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.timeout(max(300, COUNT * 20))
@settings(max_examples=COUNT, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=programs(ties=st.booleans()), seed=st.integers(0, 2**32 - 1))
def test_a_program_has_one_history_however_it_is_run(program, seed):
    checking.check(program, seed)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "ties", "seed"),
    [(RETRIED, False, 3), (AT_WORK, False, 3), (AT_WORK, True, 3), (AGAIN, False, 3)]
    + [(BETWEEN, False, seed) for seed in (3, 5, 6)],
)
def test_what_was_once_found_ends_alike_when_workers_die(body, ties, seed):
    figures = checking.check(Program(body, tries=1, ties=ties), seed)
    assert figures.deaths > 0


@pytest.mark.django_db
def test_a_run_whose_workers_die_after_each_of_its_looks_is_not_parked(monkeypatch):
    monkeypatch.setattr(deaths, "AFTER_COMMIT", (1.0,))
    monkeypatch.setattr(deaths, "AT_STATEMENT", (0.0,))
    figures = checking.check(Program(IN_VAIN, tries=1, ties=False), 0)
    assert figures.deaths == deaths.MOST
