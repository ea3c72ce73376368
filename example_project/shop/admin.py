from __future__ import annotations

from django.contrib import admin

from example_project.shop.models import ActivityRun, Invoice, Order, Payment, Shipment


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ["id", "customer", "item", "cents", "status", "created"]
    list_filter = ["status", "item"]
    search_fields = ["customer"]


@admin.register(Payment)
class PaymentAdmin(admin.ModelAdmin):
    list_display = ["id", "order", "cents", "receipt", "created"]
    list_select_related = ["order"]


@admin.register(Shipment)
class ShipmentAdmin(admin.ModelAdmin):
    list_display = ["id", "order", "parcel", "created"]
    list_select_related = ["order"]


@admin.register(Invoice)
class InvoiceAdmin(admin.ModelAdmin):
    list_display = ["id", "order", "number", "created"]
    list_select_related = ["order"]


@admin.register(ActivityRun)
class ActivityRunAdmin(admin.ModelAdmin):
    list_display = ["id", "order", "activity", "process", "started"]
    list_filter = ["activity"]
    list_select_related = ["order"]
