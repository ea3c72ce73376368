"""What surrounds the start of a workflow is captured as it is, and restored for the time of a block."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from datetime import timezone as offsets
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone, translation
from opentelemetry import context as trace_contexts
from opentelemetry import trace

from django_durable import DefinitionError, PayloadError, durable, propagation
from django_durable.payloads import codec

SPAN = trace.SpanContext(trace_id=0xABC, span_id=0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1))
TRACEPARENT = "00-00000000000000000000000000000abc-0000000000000def-01"


@pytest.fixture(autouse=True)
def _nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(propagation, "_users", {})


def captured() -> dict[str, Any]:
    found = propagation.capture()
    return {} if found is None else codec.decode(found, what="headers")


def test_where_nothing_was_chosen_there_is_nothing_to_carry() -> None:
    assert propagation.capture() is None


def test_what_was_chosen_is_captured() -> None:
    with translation.override("de"), timezone.override("Asia/Tokyo"), durable.actor(7):
        assert captured() == {"language": "de", "time_zone": "Asia/Tokyo", "actor": 7}
    assert propagation.capture() is None


def test_what_was_captured_is_restored_for_the_block() -> None:
    with translation.override("de"), timezone.override("Asia/Tokyo"), durable.actor("ada"):
        headers = propagation.capture()
    with propagation.restored(headers):
        assert translation.get_language() == "de"
        assert timezone.get_current_timezone() == ZoneInfo("Asia/Tokyo")
        assert durable.current_actor() == "ada"
    assert translation.get_language() != "de"
    assert timezone.get_current_timezone() == timezone.get_default_timezone()
    assert durable.current_actor() is None


def test_an_offset_without_a_name_is_left_alone() -> None:
    with timezone.override(offsets(UTC.utcoffset(None) or offsets.min.utcoffset(None))):
        assert "time_zone" not in captured()


def test_actors_are_nested() -> None:
    with durable.actor("outer"):
        with durable.actor("inner"):
            assert durable.current_actor() == "inner"
        assert durable.current_actor() == "outer"
        with durable.actor(None):
            assert propagation.capture() is None


@pytest.mark.parametrize("value", [True, 1.5, object()])
def test_an_actor_is_text_or_a_number(value: Any) -> None:
    with pytest.raises(TypeError, match="primary key"), durable.actor(value):
        pass


def test_the_trace_goes_on() -> None:
    token = trace_contexts.attach(trace.set_span_in_context(trace.NonRecordingSpan(SPAN)))
    try:
        headers = propagation.capture()
    finally:
        trace_contexts.detach(token)
    assert codec.decode(headers, what="headers") == {"trace": {"traceparent": TRACEPARENT}}  # type: ignore[arg-type]
    with propagation.restored(headers):
        restored = trace.get_current_span().get_span_context()
        assert (restored.trace_id, restored.span_id, restored.is_remote) == (SPAN.trace_id, SPAN.span_id, True)
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_process_without_telemetry_takes_no_trace_along_and_minds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = codec.encode({"trace": {"traceparent": TRACEPARENT}}, what="headers")
    monkeypatch.setattr(propagation, "traces", None)
    assert propagation.capture() is None
    with propagation.restored(headers):
        pass


# Values of the user's

tenant: contextvars.ContextVar[str | None] = contextvars.ContextVar("tenant", default=None)


@contextmanager
def for_tenant(value: str) -> Iterator[None]:
    token = tenant.set(value)
    try:
        yield
    finally:
        tenant.reset(token)


def test_a_value_of_the_users_is_carried_by_a_context_manager() -> None:
    durable.propagate("tenant", capture=tenant.get, restore=for_tenant)
    assert propagation.capture() is None
    with for_tenant("acme"):
        headers = propagation.capture()
    with propagation.restored(headers):
        assert tenant.get() == "acme"
    assert tenant.get() is None


def test_a_restore_may_simply_set_the_value() -> None:
    def set_tenant(value: str) -> None:
        tenant.set(value)

    durable.propagate("tenant", capture=lambda: "acme", restore=set_tenant)

    def look() -> str | None:
        with propagation.restored(propagation.capture()):
            return tenant.get()

    assert contextvars.Context().run(look) == "acme"  # as an activity runs
    assert tenant.get() is None


def test_a_value_that_this_process_does_not_know_is_left_alone() -> None:
    with propagation.restored(codec.encode({"unknown": 1, "actor": "ada"}, what="headers")):
        assert durable.current_actor() == "ada"


def test_what_a_restore_raises_is_not_hidden() -> None:
    def fail(value: str) -> None:
        raise ZeroDivisionError(value)

    durable.propagate("tenant", capture=lambda: "acme", restore=fail)
    with pytest.raises(ZeroDivisionError), propagation.restored(propagation.capture()):
        pass


def test_what_cannot_be_stored_is_refused_where_the_workflow_is_started() -> None:
    durable.propagate("tenant", capture=object, restore=for_tenant)
    with pytest.raises(PayloadError, match="propagated"):
        propagation.capture()


@pytest.mark.parametrize("name", ["actor", "language", "time_zone", "trace", "", "with spaces", 7])
def test_names_that_are_taken_or_none_are_refused(name: Any) -> None:
    with pytest.raises(DefinitionError):
        durable.propagate(name, capture=tenant.get, restore=for_tenant)


def test_a_name_belongs_to_one_place() -> None:
    durable.propagate("tenant", capture=tenant.get, restore=for_tenant)
    durable.propagate("tenant", capture=tenant.get, restore=for_tenant)  # a module that was imported twice
    with pytest.raises(DefinitionError, match="already"):
        durable.propagate("tenant", capture=lambda: "other", restore=for_tenant)
    with pytest.raises(DefinitionError, match="two functions"):
        durable.propagate("other", capture="no function", restore=for_tenant)  # type: ignore[arg-type]
