"""django-ninja."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from ninja import NinjaAPI, Schema, Status
from ninja.security import django_auth

from django_durable.shortcuts import status_response
from example_project.faces import orders
from example_project.shop.models import Item

api = NinjaAPI(title="Orders", urls_namespace="ninja", auth=django_auth)


class Place(Schema):
    item: Item


class Placed(Schema):
    order: int


@api.post("orders/", response={202: Placed})
def start(request: HttpRequest, given: Place, response: HttpResponse) -> Status[Placed]:
    order = orders.place(request.user, given.item)
    response["Location"] = reverse("ninja:status", args=[order.pk])
    return Status(202, Placed(order=order.pk))


@api.get("orders/{int:pk}/", url_name="status")
def status(request: HttpRequest, pk: int) -> HttpResponse:
    order = get_object_or_404(orders.of(request.user), pk=pk)
    return status_response(request, order.workflow_id)


urlpatterns = [path("", api.urls)]
