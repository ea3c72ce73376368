"""Workflows that undo what they have done."""

from __future__ import annotations

from django_durable import Context, durable
from tests.flows import activities


@durable.workflow
async def undo(ctx: Context, key: str) -> None:
    """Undoes one thing, as a child."""
    await ctx.activity(activities.record, "undone", key)


@durable.workflow
async def trip(ctx: Context, fails: bool = True, parallel: bool = False) -> str:
    """Books three things, waits, and pays or not."""
    if parallel:
        ctx.compensate_in_parallel()
    for name in ("flight", "hotel", "car"):
        with ctx.scope(name):
            await ctx.activity(activities.record.using(label=f"book the {name}"), "booked", name)
            if name == "hotel":
                ctx.compensate(undo, name)
            else:
                ctx.compensate(activities.record, "undone", name)
    await ctx.wait_signal("go", timeout=3_600, label="until the customer pays")
    if fails:
        await ctx.activity(activities.double, -1)
    return "paid"
