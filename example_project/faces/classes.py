"""Class-based views."""

from __future__ import annotations

from django import forms
from django.contrib.auth.mixins import LoginRequiredMixin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path, reverse
from django.views.generic import FormView
from django.views.generic.detail import BaseDetailView

from django_durable.shortcuts import status_response
from example_project.faces import orders
from example_project.shop.models import Item, Order


class PlaceForm(forms.Form):
    item = forms.ChoiceField(choices=Item.choices)


class Start(LoginRequiredMixin, FormView):
    form_class = PlaceForm
    http_method_names = ["post", "options"]

    def form_valid(self, form: PlaceForm) -> HttpResponse:
        order = orders.place(self.request.user, form.cleaned_data["item"])
        location = reverse("class-status", args=[order.pk])
        return JsonResponse({"order": order.pk}, status=202, headers={"Location": location})

    def form_invalid(self, form: PlaceForm) -> HttpResponse:
        return JsonResponse({"errors": form.errors}, status=400)


class Status(LoginRequiredMixin, BaseDetailView):
    http_method_names = ["get", "head", "options"]

    def get_queryset(self) -> QuerySet[Order]:
        return orders.of(self.request.user)

    def get(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        return status_response(request, self.get_object().workflow_id)


urlpatterns = [
    path("orders/", Start.as_view(), name="class-start"),
    path("orders/<int:pk>/", Status.as_view(), name="class-status"),
]
