"""Where the shop's side effects live. An ordinary activity may run again after a crash, so each one bears that:
by an idempotency key, by ``get_or_create``, or by being atomic."""

from __future__ import annotations

import os
from datetime import timedelta

from django_durable import Retry, durable
from example_project.shop import gateway
from example_project.shop.models import ActivityRun, Invoice, Order, Payment, Shipment


@durable.activity(
    retry=Retry(
        max_attempts=5,
        initial_interval=timedelta(seconds=1),
        backoff=2.0,
        non_retryable=[gateway.CardDeclined],
    ),
    start_to_close=timedelta(seconds=30),
)
def charge_card(order_id: int, cents: int) -> str:
    _note("charge_card", order_id)
    return gateway.charge(cents, idempotency_key=durable.current_activity().idempotency_key)


@durable.activity(atomic=True)
def mark_paid(order_id: int, receipt: str) -> None:
    """Its rows and its completion commit together, so there is exactly one payment for each order."""
    _note("mark_paid", order_id)
    order = Order.objects.get(pk=order_id)
    Payment.objects.create(order=order, cents=order.cents, receipt=receipt)
    _move(order_id, Order.Status.PAID)


@durable.activity
def pack(order_id: int) -> str:
    _note("pack", order_id)
    gateway.answer_after_a_while()
    shipment, _ = Shipment.objects.get_or_create(order_id=order_id, defaults={"parcel": f"parcel-{order_id:05d}"})
    _move(order_id, Order.Status.PACKED)
    return shipment.parcel


@durable.activity
def invoice(order_id: int) -> str:
    _note("invoice", order_id)
    gateway.answer_after_a_while()
    bill, _ = Invoice.objects.get_or_create(order_id=order_id, defaults={"number": f"inv-{order_id:05d}"})
    return bill.number


@durable.activity
def send_receipt(order_id: int, receipt: str, number: str) -> None:
    _note("send_receipt", order_id)
    gateway.answer_after_a_while()
    _move(order_id, Order.Status.DONE)


def _note(activity: str, order_id: int) -> None:
    ActivityRun.objects.create(order_id=order_id, activity=activity, process=os.getpid())


def _move(order_id: int, status: Order.Status) -> None:
    Order.objects.filter(pk=order_id).update(status=status)
