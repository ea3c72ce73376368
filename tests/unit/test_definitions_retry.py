"""Retry policies: how long to wait, and whether to try again."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_durable import ApplicationError, PayloadError, Retry, RetryAfter
from django_durable.exceptions import DefinitionError

SECOND = timedelta(seconds=1)


class CardDeclined(Exception):
    pass


class Stolen(CardDeclined):
    pass


def steady(**options: Any) -> Retry:
    return Retry(**{"jitter": False, **options})


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (100, 60), (10_000, 60)])
def test_pauses_double_up_to_the_longest(attempt: int, seconds: int) -> None:
    assert steady().delay(attempt, lambda: 0.5) == seconds * SECOND


def test_jitter_takes_a_random_part_of_the_pause() -> None:
    assert Retry().delay(3, lambda: 0.25) == SECOND
    assert Retry().delay(3, lambda: 0.0) == timedelta(0)


def test_a_backoff_of_one_keeps_the_pause() -> None:
    assert steady(backoff=1, initial_interval=5 * SECOND).delay(9, lambda: 0.5) == 5 * SECOND


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True), st.floats(1, 1000), st.integers(0, 59))
def test_a_pause_is_never_negative_nor_above_the_longest(
    attempt: int, part: float, backoff: float, initial: int
) -> None:
    policy = Retry(backoff=backoff, initial_interval=initial * SECOND)
    assert timedelta(0) <= policy.delay(attempt, lambda: part) <= 60 * SECOND


def test_attempts_count_the_first() -> None:
    error = ValueError()
    assert [Retry(max_attempts=3).allows(error, failed) for failed in (1, 2, 3, 4)] == [True, True, False, False]
    assert not Retry(max_attempts=1).allows(error, 1)
    assert [Retry().allows(error, failed) for failed in (5, 6)] == [True, False]


def test_no_limit_is_no_limit() -> None:
    assert Retry(max_attempts=None).allows(ValueError(), 10**9)


@pytest.mark.parametrize("kind", [CardDeclined, "CardDeclined", f"{__name__}.CardDeclined", Exception, "Exception"])
def test_non_retryable_counts_by_class_and_by_name_for_subclasses_too(kind: Any) -> None:
    policy = Retry(non_retryable=[kind])
    assert not policy.allows(CardDeclined(), 1)
    assert not policy.allows(Stolen(), 1)
    assert policy.allows(KeyboardInterrupt(), 1)


def test_only_what_is_retryable_is_tried_again_if_there_is_such_a_list() -> None:
    policy = Retry(retryable=[ConnectionError, "CardDeclined"], non_retryable=["Stolen"])
    assert policy.allows(ConnectionResetError(), 1)
    assert policy.allows(CardDeclined(), 1)
    assert not policy.allows(Stolen(), 1)
    assert not policy.allows(ValueError(), 1)


def test_an_application_error_counts_by_its_own_type() -> None:
    error = ApplicationError("no", type="Declined")
    assert not Retry(non_retryable=["Declined"]).allows(error, 1)
    assert Retry(retryable=["Declined"]).allows(error, 1)
    assert Retry(non_retryable=["Declined"]).allows(ApplicationError("no"), 1)


def test_an_application_error_can_end_the_retries() -> None:
    assert not Retry(max_attempts=None).allows(ApplicationError("no", non_retryable=True), 1)
    assert Retry().allows(RetryAfter("later", delay=SECOND), 1)


def test_a_value_that_cannot_be_stored_is_never_tried_again() -> None:
    assert not Retry(max_attempts=None, retryable=[PayloadError]).allows(PayloadError("NaN"), 1)


def test_the_predicate_is_asked_last() -> None:
    asked: list[BaseException] = []

    def when(error: BaseException) -> bool:
        asked.append(error)
        return "again" in str(error)

    policy = Retry(max_attempts=2, non_retryable=[KeyError], when=when)
    assert policy.allows(ValueError("again"), 1)
    assert not policy.allows(ValueError("no"), 1)
    assert not policy.allows(ValueError("again"), 2)
    assert not policy.allows(KeyError("again"), 1)
    assert len(asked) == 2


def test_a_predicate_that_raises_is_logged_and_has_not_said_no(caplog: pytest.LogCaptureFixture) -> None:
    policy = Retry(when=lambda error: error.status == 500)  # type: ignore[attr-defined]
    with caplog.at_level(logging.ERROR, "django_durable"):
        assert policy.allows(ConnectionError("down"), 1)
    assert "down" in caplog.text


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_attempts": 0}, "1 or more"),
        ({"max_attempts": True}, "1 or more"),
        ({"max_attempts": 2.0}, "1 or more"),
        ({"initial_interval": 1}, "initial_interval must be a timedelta"),
        ({"initial_interval": -SECOND}, "zero or more"),
        ({"initial_interval": timedelta(minutes=2)}, "Raise max_interval"),
        ({"backoff": 0.5}, "at least 1"),
        ({"backoff": float("nan")}, "at least 1"),
        ({"backoff": float("inf")}, "at least 1"),
        ({"jitter": 0.5}, "True or False"),
        ({"retryable": ValueError}, "must be a list"),
        ({"non_retryable": "ValueError"}, "must be a list"),
        ({"non_retryable": [ValueError()]}, "classes and their names only"),
        ({"retryable": [int]}, "classes and their names only"),
        ({"when": True}, "function of the error"),
    ],
)
def test_a_policy_that_cannot_work_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(DefinitionError, match=told):
        Retry(**options)


def test_policies_are_values() -> None:
    assert Retry(non_retryable=[CardDeclined]) == Retry(non_retryable=(CardDeclined,))
    assert len({Retry(), Retry(), Retry(max_attempts=2)}) == 2
