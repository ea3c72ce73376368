"""Rates: never more than the count in a stretch, but for a burst after a quiet time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_durable import DefinitionError, Rate

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rate", "at_once"),
    [
        (Rate(1, per=timedelta(seconds=1)), 1),
        (Rate(100, per=timedelta(minutes=1)), 1),
        (Rate(1_000, per=timedelta(seconds=1)), 100),
        (Rate(10, per=timedelta(seconds=1), burst=10), 10),
    ],
    ids=str,
)
def test_without_a_burst_a_tenth_of_a_second_may_begin_at_once(rate: Rate, at_once: int) -> None:
    assert rate.at_once == at_once == rate.free(None, NOON)


@given(
    count=st.integers(1, 50),
    per=st.integers(1, 10_000),
    burst=st.integers(1, 60),
    steps=st.lists(st.tuples(st.integers(0, 5_000), st.integers(1, 20)), max_size=60),
)
def test_no_stretch_has_more_than_the_count_and_the_burst(
    count: int, per: int, burst: int, steps: list[tuple[int, int]]
) -> None:
    rate, now, spent = Rate(count, per=timedelta(milliseconds=per), burst=burst), NOON, None
    begun: list[datetime] = []
    for pause, wanted in steps:
        now += timedelta(milliseconds=pause)
        taken = min(wanted, rate.free(spent, now))
        if taken:
            spent = rate.spend(spent, now, taken)
            begun += [now] * taken
        assert (rate.free(spent, now) > 0) == (rate.next_free(spent, now) == now)
        assert rate.free(spent, rate.next_free(spent, now)) >= 1
    for first in begun:
        assert sum(first <= one < first + rate.per for one in begun) <= count + burst - 1


@pytest.mark.parametrize(
    "wrong",
    [{"count": 0}, {"count": True}, {"per": timedelta(0)}, {"per": 60}, {"burst": 0}, {"count": 10**8}],
    ids=str,
)
def test_what_is_no_rate_is_refused(wrong: dict[str, Any]) -> None:
    values: dict[str, Any] = {"count": 10, "per": timedelta(seconds=1), **wrong}
    with pytest.raises(DefinitionError, match="Rate"):
        Rate(values.pop("count"), **values)
