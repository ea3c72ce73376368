"""What happens to an order, from the charge to the receipt."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from django_durable import Context, durable
from example_project.shop import activities

COOLING_OFF = timedelta(seconds=1)
"""How long the customer may think again. Days in a real shop: waiting costs nothing."""


@durable.workflow
async def process_order(ctx: Context, order_id: int, cents: int) -> dict[str, str]:
    receipt = await ctx.activity(activities.charge_card, order_id, cents)
    await ctx.activity(activities.mark_paid, order_id, receipt)
    parcel, number = await asyncio.gather(
        ctx.activity(activities.pack, order_id),
        ctx.activity(activities.invoice, order_id),
    )
    await ctx.sleep(COOLING_OFF)
    await ctx.activity(activities.send_receipt, order_id, receipt, number)
    return {"receipt": receipt, "parcel": parcel, "invoice": number}
