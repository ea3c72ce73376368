"""Errors survive being copied and being pickled, which pools of processes, task queues and test runners do to them."""

from __future__ import annotations

import copy
import inspect
import pickle
from datetime import timedelta
from typing import Any

import pytest

from django_durable import exceptions
from django_durable.exceptions import ApplicationError, DurableError, FailureError, QueryFailed, RetryAfter

KINDS = [
    kind
    for name, kind in sorted(vars(exceptions).items())
    if isinstance(kind, type) and issubclass(kind, BaseException) and not name.startswith("_")
]
SPECIAL = {"delay": timedelta(seconds=5), "errors": [ValueError("x")]}


class Picky(ApplicationError):
    """An application's own, with arguments of its own."""

    def __init__(self, order_id: int, *, cents: int) -> None:
        super().__init__(f"Order {order_id} costs {cents}.", type="Picky", data={"cents": cents})
        self.order_id = order_id


class Unpicklable(Exception):
    def __init__(self, order_id: int, cents: int) -> None:
        super().__init__(f"{order_id}: {cents}")


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def example(kind: type[BaseException]) -> BaseException:
    """One with a value for everything that its kind can say."""
    if not inspect.isfunction(kind.__init__):
        return kind("It broke.")
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    given = {one.name: SPECIAL.get(one.name, f"a {one.name}") for one in parameters}
    return kind(given.pop(parameters[0].name), **given)


def told(error: BaseException) -> dict[str, Any]:
    return {name: repr(value) for name, value in vars(error).items()}


@pytest.mark.parametrize("kind", [*KINDS, Picky])
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled])
def test_an_error_is_the_same_again(kind, again):
    error = Picky(5, cents=7) if kind is Picky else example(kind)
    error.add_note("It was a Monday.")
    found = again(error)
    assert type(found) is kind
    assert (str(found), found.args, told(found)) == (str(error), error.args, told(error))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if issubclass(kind, DurableError)])
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled])
def test_its_causes_come_along(kind, again):
    error, cause = example(kind), FailureError("No card.", type="Declined", data={"code": 7})
    error.__cause__, cause.__cause__ = cause, ValueError("deeper")
    found = again(error)
    assert isinstance(found.__cause__, FailureError)
    assert told(found.__cause__) == told(cause)
    assert repr(found.__cause__.__cause__) == "ValueError('deeper')"
    assert found.__suppress_context__


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled])
def test_a_cause_that_cannot_be_pickled_is_left_out(again):
    error = QueryFailed("It broke.", type="Unpicklable")
    error.__cause__ = Unpicklable(1, 2)
    found = again(error)
    assert (found.type, found.cause) == ("Unpicklable", None)


def test_an_error_without_a_cause_shows_its_context():
    assert not pickled(RetryAfter("later", delay=timedelta(seconds=1))).__suppress_context__
