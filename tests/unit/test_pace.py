"""How often a worker looks at the database."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from django_durable.worker import pace


class Clock:
    """``time.monotonic`` under the test's hands."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    own = Clock()
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=own.monotonic))
    return own


def look(own: pace.Pace, clock: Clock, *, seconds: float = 0.0, found: bool = False, searched: bool = False) -> None:
    """A look that lasts so many seconds."""
    own.begin()
    clock.now += seconds
    own.looked(found=found, searched=searched, until_due=None)


def test_the_search_through_all_inboxes_waits_for_twenty_times_its_own_duration(clock: Clock) -> None:
    """Over many dead messages it can take long, and must not take the database for itself."""
    own = pace.Pace(lambda: 0.5)
    assert own.wants_messages()
    look(own, clock, seconds=0.05, searched=True)
    clock.now += 0.99
    assert not own.wants_messages()
    clock.now += 0.02
    assert own.wants_messages()


def test_a_look_that_did_not_search_does_not_put_the_next_search_off(clock: Clock) -> None:
    own = pace.Pace(lambda: 0.5)
    look(own, clock, seconds=5.0)
    assert own.wants_messages()


def test_while_there_is_other_work_the_search_comes_four_times_a_second_all_the_same(clock: Clock) -> None:
    own = pace.Pace(lambda: 0.5)
    look(own, clock, found=True, searched=True)
    clock.now += pace.MESSAGES_PATIENCE / 2
    assert not own.wants_messages()
    clock.now += pace.MESSAGES_PATIENCE
    assert own.wants_messages()


def test_an_idle_worker_looks_ever_more_rarely_and_at_once_when_told(clock: Clock) -> None:
    own = pace.Pace(lambda: 0.5)
    waits = []
    for _ in range(10):
        look(own, clock)
        waits.append(own.until_next())
        clock.now += waits[-1]
        assert own.is_due()
    assert waits[0] < 0.02
    assert 0.44 < waits[-1] < 0.56
    look(own, clock)
    assert not own.is_due()
    own.hurry()
    assert own.is_due()


def test_a_hint_that_comes_during_a_look_asks_for_another_one(clock: Clock) -> None:
    """The look may have read too early to see what the hint tells of."""
    own = pace.Pace(lambda: 0.5)
    own.begin()
    own.hurry()
    own.looked(found=False, searched=True, until_due=None)
    assert own.is_due()


def test_a_sleeper_that_wakes_up_sooner_is_looked_for_sooner(clock: Clock) -> None:
    own = pace.Pace(lambda: 60.0)
    own.begin()
    own.looked(found=False, searched=True, until_due=0.25)
    assert own.until_next() == pytest.approx(0.25)
