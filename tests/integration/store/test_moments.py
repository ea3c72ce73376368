"""Moments are what they were, to the microsecond, whatever time zones the project and the server have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.db.models import DateTimeField

from django_durable.history import events
from django_durable.models import Worker
from django_durable.moments import MomentField
from django_durable.store import clock, database, dispatch, history
from tests.integration.store import chains

pytestmark = pytest.mark.django_db

BERLIN = ZoneInfo("Europe/Berlin")
TWICE = [  # 02:30 on the local clock, an hour apart
    datetime(2026, 10, 25, 0, 30, 0, 123456, tzinfo=UTC),
    datetime(2026, 10, 25, 1, 30, 0, 123456, tzinfo=UTC),
]


@pytest.fixture(params=["USE_TZ", "local time"], autouse=True)
def zone(request: Any, settings: Any) -> str:
    """The project's time zone is Berlin, with and without ``USE_TZ``."""
    settings.TIME_ZONE = "Europe/Berlin"
    settings.USE_TZ = request.param == "USE_TZ"
    return str(request.param)


def sleeping_until(moment: datetime) -> Any:
    return chains.row(chains.start(wakeup_at=moment))


@pytest.mark.parametrize("moment", TWICE)
def test_an_hour_that_the_local_clock_has_twice_stays_two_hours(moment: datetime) -> None:
    row = sleeping_until(moment)

    assert row.wakeup_at == moment
    assert row.wakeup_at.tzinfo is UTC
    [[raw]] = database.select("SELECT wakeup_at FROM durable_dispatch", [])
    assert clock.as_moment(raw) == moment


def test_a_history_is_read_with_the_times_that_it_was_written_with() -> None:
    run = chains.row(chains.start()).run_id
    history.append(
        [history.Row.of(run, 2 + place, moment, events.TimerFired(timer=1)) for place, moment in enumerate(TWICE)]
    )

    assert [recorded.time for recorded in history.read([run])[run][1:]] == TWICE
    assert [stored.time for stored in history.page(run, 1, 10, data_limit=100)] == TWICE


def test_moments_are_compared_as_moments() -> None:
    first, second = (sleeping_until(moment).pk for moment in TWICE)
    between = TWICE[0] + timedelta(minutes=30)

    assert [row.pk for row in dispatch.rows().order_by("wakeup_at")] == [first, second]
    assert dispatch.rows().filter(wakeup_at__lt=between).get().pk == first
    assert dispatch.rows().filter(wakeup_at__gt=between.astimezone(BERLIN)).get().pk == second


def test_the_clock_and_what_it_has_written_are_aware_and_now() -> None:
    worker = Worker.objects.get(pk=chains.worker())

    for moment in (clock.read(), worker.started_at, worker.heartbeat_at):
        assert moment.tzinfo is UTC
        assert abs(moment - datetime.now(UTC)) < timedelta(minutes=10)
    assert not Worker.objects.filter(expires_at__lt=clock.now()).exists()
    assert not Worker.objects.filter(started_at__gt=clock.now()).exists()


def test_a_naive_moment_is_local_time(zone: str) -> None:
    if zone == "USE_TZ":
        with pytest.warns(RuntimeWarning, match="received a naive datetime"):
            row = sleeping_until(datetime(2026, 7, 1, 12))
    else:
        row = sleeping_until(datetime(2026, 7, 1, 12))

    assert row.wakeup_at == datetime(2026, 7, 1, 10, tzinfo=UTC)


def test_every_time_in_our_tables_is_kept_that_way() -> None:
    fields = [field for model in chains.our_models() for field in model._meta.get_fields()]
    times = [field for field in fields if isinstance(field, DateTimeField)]

    assert times
    assert [str(field) for field in times if type(field) is not MomentField] == []


def test_the_columns_hold_utc() -> None:
    sleeping_until(TWICE[0])
    in_utc = "wakeup_at AT TIME ZONE 'UTC'" if connection.vendor == "postgresql" else "wakeup_at"
    text = "CHAR" if connection.vendor == "mysql" else "TEXT"

    found = database.select(f"SELECT CAST({in_utc} AS {text}) FROM durable_dispatch", [])

    assert [*found] == [("2026-10-25 00:30:00.123456",)]
