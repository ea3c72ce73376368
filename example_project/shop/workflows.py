"""What happens to an order, from the charge to the receipt."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from django_durable import Context, durable
from example_project.shop import activities

COOLING_OFF = timedelta(seconds=1)
"""How long the customer may think again. Days in a real shop: waiting costs nothing."""

STEPS = 4


@durable.workflow
async def process_order(ctx: Context, order_id: int, cents: int) -> dict[str, str]:
    ctx.set_progress("Charging your card", 0, STEPS)
    receipt = await ctx.activity(activities.charge_card, order_id, cents)
    await ctx.activity(activities.mark_paid, order_id, receipt)
    ctx.set_progress("Packing your parcel", 1, STEPS)
    parcel, number = await asyncio.gather(
        ctx.activity(activities.pack, order_id),
        ctx.activity(activities.invoice, order_id),
    )
    ctx.set_progress("Waiting in case you change your mind", 2, STEPS)
    await ctx.sleep(COOLING_OFF)
    ctx.set_progress("Sending your receipt", 3, STEPS)
    await ctx.activity(activities.send_receipt, order_id, receipt, number)
    return {"receipt": receipt, "parcel": parcel, "invoice": number}
