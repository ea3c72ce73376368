from __future__ import annotations

from django import forms

from example_project.shop.models import CENTS, Item, Order


class OrderForm(forms.ModelForm):
    class Meta:
        model = Order
        fields = ["customer", "item"]

    def save(self, commit: bool = True) -> Order:
        self.instance.cents = CENTS[Item(self.cleaned_data["item"])]  # the price is the shop's to say
        order: Order = super().save(commit)
        return order
