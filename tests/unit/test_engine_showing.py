"""Attributes and progress: written with the drain that sets them, and never by a replay."""

from __future__ import annotations

from typing import Any

import pytest

from django_durable.definitions.workflow import WorkflowDefinition
from django_durable.engine.context import Context
from django_durable.engine.showing import Shown
from django_durable.exceptions import DefinitionError
from django_durable.history import events
from django_durable.history.progress import Progress
from tests.unit.engine_harness import STEP, Run, workflow


@workflow
async def shows(ctx: Context) -> dict[str, Any]:
    ctx.set_attributes(customer=7, state="new")
    ctx.set_progress("packing", 1, 3)
    ctx.set_progress("packing", 2, 3)
    await ctx.activity(STEP, "a")
    ctx.set_attributes({"state": None, "parcel-number": 5})
    await ctx.activity(STEP, "b")
    return dict(ctx.attributes)


def test_a_drain_tells_what_it_has_changed():
    run = Run(shows)
    assert run.drain.shown == Shown(
        attributes={"customer": 7, "state": "new"}, progress=Progress(text="packing", done=2, total=3)
    )
    run.complete("a")
    assert run.drain.shown == Shown(attributes={"state": None, "parcel-number": 5})
    run.complete("b")
    assert run.drain.shown is None
    assert run.result() == {"customer": 7, "parcel-number": 5}


def test_nothing_of_it_is_in_the_history():
    run = Run(shows)
    run.complete("a")
    assert run.kinds == ["RunStarted", "ActivityScheduled", "ActivityCompleted", "ActivityScheduled"]
    run.evict()


def test_a_replay_sets_it_again_and_tells_nothing():
    run = Run(shows)
    run.complete("a")
    instance = run.replay()
    assert dict(instance.attributes) == {"customer": 7, "parcel-number": 5}
    drain = instance.apply(events.CancelRequested(), run.time)
    assert drain.shown is None
    instance.evict()
    run.evict()


@workflow
async def given(ctx: Context) -> dict[str, Any]:
    before = dict(ctx.attributes)
    ctx.set_attributes(paid=True)
    return {"before": before, "after": dict(ctx.attributes)}


def test_attributes_of_the_start_are_there():
    run = Run(given, attributes={"customer": 7, "price": {"decimal": "1.50"}})
    assert run.result() == {
        "before": {"customer": 7, "price": "1.50"},
        "after": {"customer": 7, "price": "1.50", "paid": True},
    }


@workflow
async def writes_into_them(ctx: Context) -> None:
    attributes: Any = ctx.attributes
    attributes["customer"] = 8


def test_attributes_cannot_be_written_to_by_the_way():
    assert Run(writes_into_them).failure.type == "TypeError"


@workflow
async def sets_what_cannot_be(ctx: Context) -> list[Any]:
    found: list[Any] = []
    for values in ({"a": 1, "b": [1]}, {"a__b": 1}, {str(number): number for number in range(101)}):
        try:
            ctx.set_attributes(values)
        except Exception as error:
            found.append(type(error).__name__)
    wrong: Any = "many"
    for number in (wrong, float("nan"), True):
        try:
            ctx.set_progress("x", number)
        except TypeError:
            found.append("no number")
    return [*found, dict(ctx.attributes)]


def test_what_cannot_be_is_refused_and_changes_nothing():
    run = Run(sets_what_cannot_be)
    assert run.drain.shown is None
    expected = ["PayloadError", "DefinitionError", "DefinitionError", "no number", "no number", "no number", {}]
    assert run.result() == expected


@workflow
async def says_no_words(ctx: Context) -> list[str]:
    found: list[str] = []
    wrong: Any
    for wrong in (5, 0.5, None):
        try:
            ctx.set_progress(wrong)
        except TypeError as error:
            found.append(str(error))
    return found


def test_a_progress_has_words_first():
    run = Run(says_no_words)
    assert run.drain.shown is None
    assert [text.rpartition(", not ")[2] for text in run.result()] == ["5.", "0.5.", "None."]


@workflow
async def says_too_much(ctx: Context) -> None:
    ctx.set_progress("x\x00\ud800" + "y" * 2_000)


def test_a_progress_is_cut_to_what_can_be_kept():
    run = Run(says_too_much)
    assert run.drain.shown is not None
    assert run.drain.shown.progress is not None
    text = run.drain.shown.progress.text
    assert (len(text), text[:3], text[-2:]) == (1_000, "x?y", "y…")
    run.evict()


@workflow
async def looks(ctx: Context) -> None:
    @ctx.on_query("attributes")
    def attributes() -> dict[str, Any]:
        return dict(ctx.attributes)

    @ctx.on_query("sets")
    def sets() -> None:
        ctx.set_attributes(a=1)

    ctx.set_attributes(customer=7)
    await ctx.wait_signal("end")


def test_a_query_can_look_at_attributes_but_not_set_them():
    run = Run(looks)
    assert run.query("attributes") == {"customer": 7}
    with pytest.raises(Exception, match="can only look"):
        run.query("sets")
    run.evict()


def definition() -> WorkflowDefinition[..., Any]:
    return given


def test_attributes_of_using_accumulate():
    options = definition().using(attributes={"a": 1, "b": 2}).using(attributes={"b": None, "c": "x"}).options
    assert options.attributes == {"a": 1, "c": "x"}


def test_one_per_subject_needs_a_subject():
    with pytest.raises(DefinitionError, match="needs a subject"):
        definition().using(one_per_subject=True)
