"""A project that keeps local time, ``USE_TZ = False``: timers, retries, signals, leases and pages all the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import psycopg
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.urls import reverse

from django_durable import durable
from django_durable.client import WorkflowHandle
from tests.e2e.harness import databases, registrations, verdict, waiting
from tests.e2e.harness.stage import Stage, staged
from tests.flows import workflows
from tests.integration.worker.invariants import assert_all_invariants

LEASE = 2.0
LIMIT = 60.0
NEAR = timedelta(minutes=10)  # of one moment to another: less than two time zones are apart
SERVER_TIME_ZONE = "Asia/Kathmandu"  # neither UTC nor the project's, nor a whole number of hours away
SERVER_OFFSET = "+05:45"  # the same


def run(url: str, time_zone: str) -> None:
    """Carry workflows through everything that has to do with time, over the death of a worker."""
    url = _with_server_time_zone(url)
    with (
        override_settings(USE_TZ=False, TIME_ZONE=time_zone),
        staged(
            url,
            concurrency=4,
            settings={"LEASE_SECONDS": LEASE},
            environment={"DURABLE_TEST_LOCAL_TIME": time_zone},
        ) as stage,
    ):
        [first] = stage.start_workers(1)
        handles = [durable.start_workflow(workflows.wait_in_every_way, f"k{number}") for number in range(4)]
        impatient = durable.start_workflow(workflows.approval, 1.0)
        waiting.until(lambda: _sleep(handles), "the runs to sleep", seconds=LIMIT)
        _see_the_dead_taken_over(stage, first.pid)
        waiting.until(lambda: _wait_an_hour(handles), "the runs to wait for their signal", seconds=LIMIT)
        for handle in handles:
            _check_status(handle)
        _check_pages(handles[0], ZoneInfo(time_zone))
        for handle in handles:
            handle.signal(workflows.approved("yes"))
            _check_result(handle.result(timeout=LIMIT))
        assert impatient.result(timeout=LIMIT) == "nobody came"
        ended = impatient.status()
        assert ended.closed_at is not None
        assert ended.closed_at - ended.created_at >= timedelta(seconds=1)
        stage.fleet.check()
        assert_all_invariants([*handles, impatient])
        verdict.nothing_left()
        assert not stage.fleet.troubles(), "\n".join(stage.fleet.troubles())


def _with_server_time_zone(url: str) -> str:
    """The same database, whose sessions have another time zone by default, where there is such a thing."""
    match databases.vendor(url):
        case "postgresql":
            with psycopg.connect(url, autocommit=True) as connection:
                name = connection.info.dbname
                connection.execute(f"ALTER DATABASE \"{name}\" SET timezone TO '{SERVER_TIME_ZONE}'")
        case "mysql":  # which may know no zones by name
            return f"{url}?{urlencode({'init_command': f'SET time_zone = {SERVER_OFFSET!r}'})}"
    return url


def _sleep(handles: list[WorkflowHandle[Any]]) -> bool:
    return all(handle.status().wakeup_at and handle.status().started_at for handle in handles)


def _see_the_dead_taken_over(stage: Stage, pid: int) -> None:
    """Leases are moments too: a killed worker is declared dead, and a living one is not."""
    [worker] = stage.fleet.running
    dead = registrations.current(pid)
    assert dead is not None
    worker.kill()
    [second] = stage.start_workers(1)
    waiting.until(lambda: registrations.is_dead(dead), f"{worker} to be declared dead", seconds=LIMIT)
    assert registrations.declared_dead() == 1
    assert registrations.current(second.pid) is not None


def _wait_an_hour(handles: list[WorkflowHandle[Any]]) -> bool:
    soon = datetime.now(UTC) + timedelta(minutes=30)
    statuses = [handle.status() for handle in handles]
    return all(status.wakeup_at is not None and status.wakeup_at > soon for status in statuses)


def _check_status(handle: WorkflowHandle[Any]) -> None:
    status, now = handle.status(), datetime.now(UTC)
    assert status.started_at is not None
    assert status.wakeup_at is not None
    assert {moment.tzinfo for moment in (status.created_at, status.started_at, status.wakeup_at)} == {UTC}
    assert now - NEAR < status.created_at <= status.started_at <= now
    assert abs(status.wakeup_at - now - timedelta(hours=1)) < NEAR
    assert all(status.created_at <= event.time <= now for event in handle.history())


def _check_result(result: dict[str, Any]) -> None:
    begun, woken = datetime.fromisoformat(result["begun"]), datetime.fromisoformat(result["woken"])
    assert datetime.now(UTC) - NEAR < begun <= datetime.now(UTC)
    assert timedelta(seconds=1) <= woken - begun < NEAR
    assert (result["attempt"], result["word"]) == (2, "yes")


def _check_pages(handle: WorkflowHandle[Any], zone: ZoneInfo) -> None:
    """Staff read local time, and the list can be narrowed by it."""
    created = handle.status().created_at.astimezone(zone)
    client = Client()
    client.force_login(User.objects.create_superuser("ada"))
    shown = _page(client, reverse("admin:durable_workflowrun_change", args=[handle.run_id]))
    assert created.strftime("%Y-%m-%d %H:%M:%S") in shown
    runs, workers = reverse("admin:durable_workflowrun_changelist"), reverse("admin:durable_worker_changelist")
    before, after = (created + step for step in (timedelta(minutes=-1), NEAR))
    assert handle.workflow_id in _page(client, runs, since=before, until=after)
    assert handle.workflow_id not in _page(client, runs, since=after, until=after + NEAR)
    assert "alive" in _page(client, workers)


def _page(client: Client, address: str, *, since: datetime | None = None, until: datetime | None = None) -> str:
    narrowed = {"created_at__gte": since, "created_at__lt": until}
    asked = {name: str(moment.replace(tzinfo=None)) for name, moment in narrowed.items() if moment is not None}
    response = client.get(address, asked)
    assert response.status_code == 200, response
    return response.content.decode()
