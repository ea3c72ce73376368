"""Signals, and the activity that is current."""

from __future__ import annotations

import contextvars
import threading
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from django_durable import DurableError, PayloadError, durable
from django_durable.definitions.current import CurrentActivity, current_activity, entered
from django_durable.definitions.signal import SignalDefinition, as_message
from django_durable.exceptions import DefinitionError
from django_durable.payloads.payload import NULL

rated = durable.signal("rated", int)


def test_calling_a_signal_makes_a_message() -> None:
    message = rated(5)
    assert (message.name, bytes(message.payload.data)) == ("rated", b"5")
    assert rated.decode(message.payload) == 5


def test_a_payload_is_optional_where_the_type_allows_it() -> None:
    assert durable.signal("approved")().payload == NULL
    assert durable.signal("approved", int | None)().payload == NULL
    with pytest.raises(PayloadError, match="signal 'rated'"):
        rated()


def test_a_payload_of_the_wrong_type_is_refused_by_the_sender_and_the_receiver() -> None:
    with pytest.raises(PayloadError, match=r"signal 'rated'.*`int`, got `str`"):
        rated("5")  # type: ignore[arg-type]
    with pytest.raises(PayloadError, match=r"signal 'rated'.*`int`, got `str`"):
        rated.decode(durable.signal("rated")("5").payload)


@pytest.mark.parametrize("value", [5, "sku", "int", {"a": 1}])
def test_a_second_argument_that_is_no_type_names_the_verb_that_sends(value: Any) -> None:
    with pytest.raises(TypeError, match=r"durable\.signal_workflow\(workflow_id, 'added'"):
        SignalDefinition("added", value)


@pytest.mark.parametrize("kind", [int, list[int], int | None, None, Any, dict])
def test_every_annotation_can_be_a_payload_type(kind: Any) -> None:
    assert SignalDefinition("added", kind).type == kind


@pytest.mark.parametrize("name", ["", "a\x00", "x" * 256, 5])
def test_a_signal_needs_a_printable_name(name: Any) -> None:
    with pytest.raises(DefinitionError, match="name of a signal"):
        SignalDefinition(name)


def test_names_definitions_and_messages_become_messages() -> None:
    assert as_message("rated", 5) == as_message(rated, 5) == as_message(rated(5)) == rated(5)
    with pytest.raises(PayloadError, match="rated"):
        as_message(rated, "x")
    with pytest.raises(TypeError, match="already"):
        as_message(rated(5), 6)


@pytest.mark.parametrize("wrong", [5, None, int])
def test_what_is_no_signal_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"A signal is a name, .*, not {wrong!r}"):
        as_message(wrong)


def current(**options: Any) -> CurrentActivity:
    return CurrentActivity(
        name="shop.charge", workflow_id="order-1", run_id=UUID(int=1), attempt=2, idempotency_key="k", **options
    )


def test_there_is_no_current_activity_outside_of_one() -> None:
    with pytest.raises(DurableError, match="outside an activity"):
        durable.current_activity()


def test_the_current_activity_is_that_of_the_block() -> None:
    outer, inner = current(), current(is_cancelled=lambda: True)
    with entered(lambda: outer):
        assert durable.current_activity() is outer
        with entered(lambda: inner):
            assert current_activity() is inner
        assert current_activity() is outer
    with pytest.raises(DurableError):
        current_activity()


def test_other_threads_have_no_current_activity_unless_given_the_context() -> None:
    seen: list[Any] = []

    def look() -> None:
        try:
            seen.append(current_activity().attempt)
        except DurableError:
            seen.append(None)

    with entered(current):
        copied = contextvars.copy_context()
        for target in (look, partial(copied.run, look)):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
    assert seen == [None, 2]


def test_cancelled_and_stopping_are_asked_each_time() -> None:
    cancelled, stopping = threading.Event(), threading.Event()
    activity = current(is_cancelled=cancelled.is_set, is_stopping=stopping.is_set)
    assert (activity.cancelled, activity.stopping) == (False, False)
    cancelled.set()
    assert (activity.cancelled, activity.stopping) == (True, False)
    stopping.set()
    assert activity.stopping
    assert (current().cancelled, current().stopping) == (False, False)
