"""The shop's own views: URLs, access and JSON are the application's. The same in other styles: ``faces``."""

from __future__ import annotations

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_POST

from django_durable import durable
from django_durable.shortcuts import status_response
from example_project.shop import steps
from example_project.shop.forms import OrderForm
from example_project.shop.models import Order
from example_project.shop.workflows import process_order


@require_GET
@ensure_csrf_cookie
def index(request: HttpRequest) -> HttpResponse:
    """The page where a person places an order and watches its steps."""
    return render(request, "shop/index.html", {"form": OrderForm(initial={"customer": "Ada"})})


@require_POST
def place_order(request: HttpRequest) -> JsonResponse:
    """Take an order and answer at once; a worker does the rest."""
    form = OrderForm(request.POST)
    if not form.is_valid():
        return JsonResponse({"errors": form.errors}, status=400)
    with transaction.atomic():  # the order and its workflow: both or neither
        order = form.save()
        durable.start_workflow(process_order.using(workflow_id=order.workflow_id), order.pk, order.cents)
    return JsonResponse(
        {
            "order": order.pk,
            "workflow_id": order.workflow_id,
            "status_url": reverse("shop:order-status", args=[order.pk]),
            "steps_url": reverse("shop:order-steps", args=[order.pk]),
            "page_url": reverse("shop:order-page", args=[order.pk]),
        },
        status=202,
    )


@require_GET
def order_status(request: HttpRequest, pk: int) -> HttpResponse:
    """How an order is doing.

    Whose order it is, is the application's to check: a shop with accounts adds ``customer=request.user`` here.
    """
    order = get_object_or_404(Order, pk=pk)
    return status_response(request, order.workflow_id, extra={"order": order.pk, "order_status": order.status})


@require_GET
def order_page(request: HttpRequest, pk: int) -> HttpResponse:
    """The page of one order, which shows by itself how far it is: with scripts and without."""
    return render(request, "shop/order.html", {"order": get_object_or_404(Order, pk=pk)})


@require_GET
def order_steps(request: HttpRequest, pk: int) -> JsonResponse:
    """The same with every step of the way, for the page that a person watches."""
    order = get_object_or_404(Order, pk=pk)
    handle = durable.get_workflow(order.workflow_id)
    return JsonResponse(
        {
            "order": order.pk,
            "order_status": order.status,
            "workflow": handle.status().as_dict(),
            "steps": steps.from_history(handle.history()),
        }
    )
