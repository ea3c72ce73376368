"""What all styles share, because it is the shop's: how an order is placed, and whose it is."""

from __future__ import annotations

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import transaction
from django.db.models import QuerySet

from django_durable import durable
from example_project.shop.models import CENTS, Item, Order
from example_project.shop.workflows import process_order

User = AbstractBaseUser | AnonymousUser


def place(user: User, item: str) -> Order:
    """Take an order and start its workflow: both or neither. Raises ``ValueError`` for what is not sold."""
    with transaction.atomic():
        order = Order.objects.create(customer=user.get_username(), item=item, cents=CENTS[Item(item)])
        durable.start_workflow(process_order.using(workflow_id=order.workflow_id), order.pk, order.cents)
    return order


def of(user: User) -> QuerySet[Order]:
    """The orders that are this user's. Every view looks here only, so nobody sees another's."""
    return Order.objects.filter(customer=user.get_username())
