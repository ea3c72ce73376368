"""Workflows that the HTTP API knows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django_durable import ApplicationError, Context, durable
from tests.flows import activities

approved = durable.signal("approved", str)


@durable.workflow(api=True)
async def order(ctx: Context, lines: int = 1, *, customer: str = "") -> dict[str, Any]:
    """An order that waits for its approval."""
    notes: list[str] = []

    @ctx.on_query("notes")
    def seen() -> list[str]:
        return notes

    @ctx.on_query("busy")
    def busy() -> None:
        while True:
            pass

    def refuse_empty(text: str) -> None:
        if not text:
            raise ValueError("an empty note")

    @ctx.on_update("note", validator=refuse_empty)
    def note(text: str) -> int:
        if text == "break":
            raise ApplicationError("broken", data={"code": 7})
        notes.append(text)
        return len(notes)

    @ctx.on_update("later")
    async def later() -> str:
        await ctx.sleep(timedelta(hours=1))
        return "at last"

    ctx.set_progress("waiting for approval", 0, lines)
    ctx.set_attributes(lines=lines, customer=customer or None)
    word = await ctx.wait_signal(approved)
    for line in range(lines):
        await ctx.activity(activities.repeat, str(line))
        ctx.set_progress("packing", line + 1, lines)
    return {"approved": word, "lines": lines, "notes": notes}


@durable.workflow(api=True)
async def failing_order(ctx: Context, secret: str) -> None:
    """Fails while it is told to, with its input in sight of nobody but staff."""
    if await ctx.activity(activities.repeat, secret) != "well":
        raise ApplicationError("out of stock", type="OutOfStock")


@durable.workflow(api=True, on_conflict="terminate_existing")
async def latest_order(ctx: Context) -> None:
    """Replaces itself."""
    await ctx.wait_signal(approved)


@durable.workflow
async def secret_order(ctx: Context) -> str:
    """Nothing for the outside world."""
    return await ctx.wait_signal(approved)
