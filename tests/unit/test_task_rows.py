"""The options of a call are in its task row as they were given: a retry on another worker knows nothing else."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest

from django_durable import Retry
from django_durable.definitions.activity import ActivityDefinition, ActivityOptions
from django_durable.definitions.registry import Registry
from django_durable.store import tasks
from django_durable.worker import task_rows

IN_COLUMNS = {"queue", "priority", "partition_key"}  # of the row: not among its options
FOR_PEOPLE = {"label"}  # stands in the history
CHANGED: dict[str, Any] = {
    "retry": Retry(
        max_attempts=None,
        initial_interval=timedelta(milliseconds=3),
        backoff=1.5,
        max_interval=timedelta(seconds=9),
        jitter=False,
        retryable=["ConnectionError"],
        non_retryable=["ValueError"],
    ),
    "start_to_close": timedelta(seconds=1.25),
    "schedule_to_start": timedelta(days=2),
    "schedule_to_close": timedelta(days=30),
    "heartbeat": timedelta(milliseconds=700),
    "cancellation": "wait",
    "atomic": True,
    "at_most_once": True,
    "executor": "process",
}


def send(to: str) -> None: ...


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> ActivityDefinition[[str], None]:
    registry = Registry()
    activity: ActivityDefinition[[str], None] = ActivityDefinition(send, name="tests.send")
    registry.add_activity(activity)
    monkeypatch.setattr(task_rows, "registry", registry)
    return activity


def test_every_option_is_accounted_for() -> None:
    assert {option.name for option in fields(ActivityOptions)} == set(CHANGED) | IN_COLUMNS | FOR_PEOPLE


@pytest.mark.parametrize("option", CHANGED)
def test_an_option_that_a_call_has_changed_is_kept(declared: ActivityDefinition[[str], None], option: str) -> None:
    called = declared.using(**{option: CHANGED[option]})
    kept = task_rows.load_options("tests.send", task_rows.dump_options(called))
    assert getattr(kept.options, option) == getattr(called.options, option)
    assert kept.options == called.options


def test_all_of_them_together_are_kept(declared: ActivityDefinition[[str], None]) -> None:
    together = {name: value for name, value in CHANGED.items() if name != "atomic"}  # which no process does
    called = declared.using(name="tests.other", **together)
    kept = task_rows.load_options("tests.send", task_rows.dump_options(called))
    assert (kept.name, kept.options) == ("tests.other", called.options)
    assert kept.function is send


def is_busy(error: BaseException) -> bool:
    return "busy" in str(error)


def test_a_predicate_is_found_by_its_name(declared: ActivityDefinition[[str], None]) -> None:
    called = declared.using(retry=Retry(3, when=is_busy))
    kept = task_rows.load_options("tests.send", task_rows.dump_options(called))
    assert kept.options.retry == Retry(3, when=is_busy)


def test_a_predicate_that_is_gone_leaves_the_word_to_the_declared_one(
    monkeypatch: pytest.MonkeyPatch, declared: ActivityDefinition[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    stored = task_rows.dump_options(declared.using(retry=Retry(3, when=is_busy)))
    monkeypatch.delattr(sys.modules[__name__], "is_busy")
    assert task_rows.load_options("tests.send", stored).options.retry == Retry(3)
    assert f"{__name__}:is_busy, which is gone" in caplog.text


def test_a_row_cannot_choose_what_is_called(
    declared: ActivityDefinition[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    stored = task_rows.dump_options(declared.using(retry=Retry(3, when=is_busy)))
    assert f"{__name__}:is_busy:" in stored
    forged = stored.replace(f"{__name__}:is_busy", "os:system")
    assert task_rows.load_options("tests.send", forged).options.retry == Retry(3)
    assert "not signed here" in caplog.text


@pytest.mark.parametrize("again", [Retry(2), Retry(2, when=is_busy)])
def test_a_call_has_its_own_word_on_a_predicate(monkeypatch: pytest.MonkeyPatch, again: Retry) -> None:
    registry = Registry()
    options = ActivityOptions(retry=Retry(when=lambda error: False))
    activity: ActivityDefinition[[str], None] = ActivityDefinition(send, name="tests.send", options=options)
    registry.add_activity(activity)
    monkeypatch.setattr(task_rows, "registry", registry)
    stored = task_rows.dump_options(activity.using(retry=again))
    assert task_rows.load_options("tests.send", stored).options.retry == again
    kept = replace(options.retry, max_attempts=9)
    stored = task_rows.dump_options(activity.using(retry=kept))
    assert task_rows.load_options("tests.send", stored).options.retry == kept


def test_what_is_as_declared_is_not_stored(declared: ActivityDefinition[[str], None]) -> None:
    assert task_rows.dump_options(declared) == ""
    assert task_rows.load_options("tests.send", "") is declared


def test_the_looks_of_a_poll_are_counted_there(declared: ActivityDefinition[[str], None]) -> None:
    stored = task_rows.dump_options(declared, looks=7)
    assert tasks.looks_of(stored) == 7
    assert task_rows.load_options("tests.send", stored).options == declared.options
    assert [tasks.looks_of(text) for text in ("", task_rows.CALLBACK)] == [0, 0]
