"""Function views."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from django.views.decorators.http import require_POST, require_safe

from django_durable.shortcuts import status_response
from example_project.faces import orders


@login_required
@require_POST
def start(request: HttpRequest) -> HttpResponse:
    try:
        order = orders.place(request.user, request.POST.get("item", ""))
    except ValueError as error:
        return JsonResponse({"error": str(error)}, status=400)
    location = reverse("function-status", args=[order.pk])
    return JsonResponse({"order": order.pk}, status=202, headers={"Location": location})


@login_required
@require_safe
def status(request: HttpRequest, pk: int) -> HttpResponse:
    order = get_object_or_404(orders.of(request.user), pk=pk)
    return status_response(request, order.workflow_id)


urlpatterns = [
    path("orders/", start, name="function-start"),
    path("orders/<int:pk>/", status, name="function-status"),
]
