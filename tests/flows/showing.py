"""Workflows that show what they do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django_durable import ChildWorkflowError, Context, durable
from django_durable.definitions.subject import Subject
from tests.flows import activities


@durable.workflow
async def shown(ctx: Context, steps: int, again: bool = False) -> dict[str, Any]:
    """Shows what it is doing, and waits for a signal in the middle of it."""
    for step in range(steps):
        ctx.set_progress("working", step + 1, steps)
        ctx.set_attributes(step=step, first=None if step else True)
        await ctx.activity(activities.nothing, step)
    ctx.set_attributes(state="waiting", since=ctx.now())
    ctx.set_progress("waiting")
    await ctx.wait_signal("go")
    if again:
        ctx.continue_as_new(0)
    ctx.set_attributes(state="done")
    ctx.set_progress("done", steps, steps)
    return {key: value for key, value in ctx.attributes.items() if key != "since"}


@durable.workflow
async def starts_child_about(ctx: Context, type: str, id: str) -> str:
    """The child is for a subject that somebody else has."""
    child = shown.using(subject=Subject(type=type, id=id), one_per_subject=True)
    try:
        await ctx.child_workflow(child, 0)
    except ChildWorkflowError as error:
        return str(error)
    return "started"


@durable.workflow(retention={"completed": timedelta(hours=1)})
async def kept_briefly(ctx: Context) -> None:
    """Is not needed for long."""


@durable.workflow
async def waits_after_child(ctx: Context) -> None:
    """Its child has ended long before it does."""
    await ctx.child_workflow(durable.workflow_named("flows.echo"), 1)
    await ctx.wait_signal("go")


@durable.workflow
async def leaves_child_behind(ctx: Context) -> None:
    """Its child goes on when it has ended."""
    child = durable.workflow_named("flows.never_ends").using(workflow_id="left-behind", parent_close="abandon")
    await ctx.start_child(child)
