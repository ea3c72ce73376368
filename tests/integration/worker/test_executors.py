"""Executors report every job exactly once."""

from __future__ import annotations

import threading
import uuid

from django_durable.worker import attempts
from django_durable.worker.executors import AsyncExecutor
from django_durable.worker.jobs import Finished, Job
from tests.flows import activities
from tests.integration.worker.running import DEADLINE, threads_left, wait_for


def job(definition=activities.nothing_async):
    run = uuid.uuid4()
    return Job(
        definition=definition,
        input=definition.encode_input((7,), {}),
        chain_id=run,
        run_id=run,
        workflow_id="w",
        sequence=2,
        key=f"{run.hex}-2",
        worker=1,
    )


def test_an_async_job_that_is_given_up_before_its_first_step_is_reported():
    """Its slot would be lost otherwise."""
    reported: list[Finished] = []
    executor = AsyncExecutor(2, reported.append)
    first, given_up, gate = job(), job(), threading.Event()
    executor.submit(first)
    wait_for(lambda: reported, "the loop to run")
    assert executor._loop is not None
    executor._loop.call_soon_threadsafe(gate.wait, DEADLINE)
    executor.submit(given_up)
    executor.give_up(given_up)
    gate.set()
    wait_for(lambda: len(reported) == 2, "the report")
    executor.close()
    wait_for(lambda: not threads_left(), "the loop to end")
    assert [finished.job for finished in reported] == [first, given_up]
    assert reported[0].result is not None
    assert reported[1].result is None


def test_a_job_that_is_given_up_before_it_begins_is_reported_and_not_executed():
    """A worker that stood still until it was declared dead begins nothing that others have begun since."""
    given_up = job(activities.nothing)
    given_up.given_up = True
    finished = attempts.execute(given_up)
    assert finished.lost
    assert finished.result is None
