"""When a schedule's ticks come: by cron, interval and calendar, around changes of the clock, within bounds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_durable import Calendar, DefinitionError, Schedule
from django_durable.definitions.schedule import EPOCH

MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2080, 1, 1), timezones=st.just(UTC))


def first(schedule: Schedule, after: datetime, count: int) -> list[str]:
    return [tick.isoformat() for tick in islice(schedule.ticks(after), count)]


def test_a_cron_expression_is_read_in_its_time_zone() -> None:
    schedule = Schedule(cron="30 9 * * MON-FRI", time_zone="America/New_York")

    assert first(schedule, datetime(2026, 7, 3, 20, tzinfo=UTC), 2) == [
        "2026-07-06T13:30:00+00:00",
        "2026-07-07T13:30:00+00:00",
    ]


def test_a_time_that_the_clock_jumps_over_is_made_up_for_at_once() -> None:
    schedule = Schedule(cron="30 2 * * *", time_zone="Europe/Berlin")

    assert first(schedule, datetime(2026, 3, 28, 12, tzinfo=UTC), 2) == [
        "2026-03-29T01:00:00+00:00",  # 3:00 in Berlin: 2:30 did not come
        "2026-03-30T00:30:00+00:00",
    ]


def test_a_time_that_comes_twice_counts_once() -> None:
    schedule = Schedule(cron="30 2 * * *", time_zone="Europe/Berlin")

    assert first(schedule, datetime(2026, 10, 24, 12, tzinfo=UTC), 2) == [
        "2026-10-25T00:30:00+00:00",
        "2026-10-26T01:30:00+00:00",
    ]


def test_a_periodic_expression_keeps_its_period_through_the_change() -> None:
    schedule = Schedule(cron="*/30 * * * *", time_zone="Europe/Berlin")
    ticks = list(islice(schedule.ticks(datetime(2026, 10, 24, 23, tzinfo=UTC)), 8))

    assert {later - earlier for earlier, later in pairwise(ticks)} == {timedelta(minutes=30)}


def test_seconds_come_first_in_six_fields() -> None:
    assert first(Schedule(cron="*/20 * * * * *"), EPOCH, 2) == [
        "1970-01-01T00:00:20+00:00",
        "1970-01-01T00:00:40+00:00",
    ]


def test_an_interval_is_counted_from_the_epoch_whoever_asks() -> None:
    schedule = Schedule(every=timedelta(hours=6))

    assert first(schedule, datetime(2026, 1, 1, 1, 23, tzinfo=UTC), 2) == [
        "2026-01-01T06:00:00+00:00",
        "2026-01-01T12:00:00+00:00",
    ]


def test_an_interval_with_a_start_is_counted_from_there() -> None:
    schedule = Schedule(every=timedelta(days=1), start_at=datetime(2026, 5, 1, 8, 15, tzinfo=UTC))

    assert first(schedule, datetime(2026, 1, 1, tzinfo=UTC), 2) == [
        "2026-05-01T08:15:00+00:00",
        "2026-05-02T08:15:00+00:00",
    ]


def test_a_calendar_says_the_same_as_its_expression() -> None:
    calendar = Schedule(calendar=Calendar(day=1, hour=6, minute=30), time_zone="Asia/Tokyo")

    assert first(calendar, EPOCH, 5) == first(Schedule(cron="30 6 1 * *", time_zone="Asia/Tokyo"), EPOCH, 5)


def test_nothing_comes_after_the_end() -> None:
    end = datetime(2026, 1, 1, 3, tzinfo=UTC)
    schedule = Schedule(cron="0 * * * *", end_at=end)

    assert first(schedule, datetime(2026, 1, 1, 1, 30, tzinfo=UTC), 9) == [
        "2026-01-01T02:00:00+00:00",
        "2026-01-01T03:00:00+00:00",
    ]
    assert schedule.after(end) is None


@given(MOMENTS, st.sampled_from(["* * * * *", "0 3 * * *", "*/7 1-5 * * 2", "0 0 29 2 *"]), st.integers(1, 10**7))
def test_ticks_are_later_than_asked_and_in_order(moment: datetime, cron: str, seconds: int) -> None:
    for schedule in (Schedule(cron=cron, time_zone="Europe/London"), Schedule(every=timedelta(seconds=seconds))):
        ticks = list(islice(schedule.ticks(moment), 3))
        assert ticks == sorted(set(ticks))
        assert ticks[0] > moment
        assert schedule.after(ticks[0]) == ticks[1]


@given(st.text(min_size=1), MOMENTS)
def test_jitter_is_the_same_wherever_it_is_asked_for(name: str, tick: datetime) -> None:
    schedule = Schedule(every=timedelta(hours=1), jitter=timedelta(minutes=5))

    lateness = schedule.lateness(name, tick)
    assert timedelta(0) <= lateness < timedelta(minutes=5)
    assert lateness == msgspec.json.decode(msgspec.json.encode(schedule), type=Schedule).lateness(name, tick)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "exactly one of cron, every and calendar"),
        ({"cron": "* * * * *", "every": timedelta(hours=1)}, "cron, every was given"),
        ({"cron": "61 * * * *"}, "Bad minute"),
        ({"cron": "every day"}, "no cron expression"),
        ({"cron": 5}, "no cron expression"),
        ({"calendar": Calendar(hour=25)}, "Bad hour"),
        ({"calendar": "daily"}, "must be a Calendar"),
        ({"every": 60}, "must be a timedelta"),
        ({"every": timedelta(milliseconds=1)}, "one second or longer"),
        ({"cron": "* * * * *", "time_zone": "Mars/Olympus"}, "no time zone"),
        ({"cron": "* * * * *", "overlap": "queue"}, "overlap must be one of"),
        ({"cron": "* * * * *", "jitter": 5}, "jitter must be a timedelta"),
        ({"cron": "* * * * *", "catch_up": timedelta(-1)}, "catch_up must be a timedelta"),
        ({"cron": "* * * * *", "start_at": datetime(2026, 1, 1)}, "with a time zone"),
        ({"cron": "* * * * *", "start_at": EPOCH, "end_at": EPOCH - timedelta(1)}, "lies before"),
        ({"cron": "* * * * *", "max_runs": 0}, "at least 1"),
        ({"cron": "* * * * *", "paused": 1}, "True or False"),
    ],
)
def test_what_could_not_work_is_refused_where_it_is_written(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        Schedule(**fields)
