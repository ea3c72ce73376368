"""The legal moves between statuses are one table, and whoever writes a status asks it."""

from __future__ import annotations

import pytest

from django_durable.history.status import CLOSED, MOVES, OPEN, Status, before


def test_a_closed_run_becomes_nothing_else():
    for status in CLOSED:
        assert MOVES[status] == frozenset()
        assert all(status not in before(new) for new in Status if new is not status)


@pytest.mark.parametrize("new", [Status.RUNNING, Status.PAUSED, Status.BLOCKED])
def test_open_runs_may_be_held_and_go_on(new):
    assert before(new) == OPEN


def test_nothing_becomes_pending_again():
    assert before(Status.PENDING) == {Status.PENDING}
