"""Async views. The start is one sync function, because Django's transactions are; so it is both or neither here too."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import aget_object_or_404
from django.urls import path, reverse
from django.views.decorators.http import require_POST, require_safe

from django_durable.shortcuts import astatus_response
from example_project.faces import orders


@login_required
@require_POST
async def start(request: HttpRequest) -> HttpResponse:
    try:
        order = await sync_to_async(orders.place)(await request.auser(), request.POST.get("item", ""))
    except ValueError as error:
        return JsonResponse({"error": str(error)}, status=400)
    location = reverse("async-status", args=[order.pk])
    return JsonResponse({"order": order.pk}, status=202, headers={"Location": location})


@login_required
@require_safe
async def status(request: HttpRequest, pk: int) -> HttpResponse:
    order = await aget_object_or_404(orders.of(await request.auser()), pk=pk)
    return await astatus_response(request, order.workflow_id)


urlpatterns = [
    path("orders/", start, name="async-start"),
    path("orders/<int:pk>/", status, name="async-status"),
]
