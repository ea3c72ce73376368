"""What the shop sells and what has happened to each order.

Payments are not unique by order in the database: if one were ever written twice, it would be seen, not hidden.
"""

from __future__ import annotations

from django.db import models


class Item(models.TextChoices):
    MUG = "mug", "Mug"
    NOTEBOOK = "notebook", "Notebook"
    LAMP = "lamp", "Desk lamp"
    VOUCHER = "voucher", "Voucher (the bank declines it)"


CENTS = {Item.MUG: 1_200, Item.NOTEBOOK: 800, Item.LAMP: 4_200, Item.VOUCHER: 2_500}


class Order(models.Model):
    class Status(models.TextChoices):
        PLACED = "placed", "Placed"
        PAID = "paid", "Paid"
        PACKED = "packed", "Packed"
        DONE = "done", "Done"

    customer = models.CharField(max_length=100)
    item = models.CharField(max_length=20, choices=Item)
    cents = models.PositiveIntegerField()
    status = models.CharField(max_length=20, choices=Status, default=Status.PLACED)
    created = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"Order {self.pk}: {self.get_item_display()} for {self.customer}"

    @property
    def workflow_id(self) -> str:
        """The id of the workflow that carries this order through."""
        return f"order-{self.pk}"


class Payment(models.Model):
    """Written by an atomic activity: exactly one for each paid order, whatever dies on the way."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="payments")
    cents = models.PositiveIntegerField()
    receipt = models.CharField(max_length=50)
    created = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"Payment {self.receipt}"


class Shipment(models.Model):
    order = models.OneToOneField(Order, on_delete=models.CASCADE, related_name="shipment")
    parcel = models.CharField(max_length=50)
    created = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"Parcel {self.parcel}"


class Invoice(models.Model):
    order = models.OneToOneField(Order, on_delete=models.CASCADE, related_name="invoice")
    number = models.CharField(max_length=50)
    created = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"Invoice {self.number}"


class ActivityRun(models.Model):
    """One row each time that an activity's code began: the demo counts what ran again after a crash."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="activity_runs")
    activity = models.CharField(max_length=50)
    process = models.PositiveIntegerField(help_text="Process id of the worker that ran it.")
    started = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.activity} for order {self.order_id}"
