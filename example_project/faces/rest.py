"""Django REST framework."""

from __future__ import annotations

from django.db.models import QuerySet
from django.http import HttpResponse
from django.urls import path
from rest_framework import generics, permissions, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from django_durable.shortcuts import status_response
from example_project.faces import orders
from example_project.shop.models import Item, Order


class PlaceSerializer(serializers.Serializer):
    item = serializers.ChoiceField(choices=Item.choices)


class Start(generics.GenericAPIView):
    permission_classes = [permissions.IsAuthenticated]
    serializer_class = PlaceSerializer

    def post(self, request: Request) -> Response:
        given = self.get_serializer(data=request.data)
        given.is_valid(raise_exception=True)
        order = orders.place(request.user, given.validated_data["item"])
        location = reverse("rest-status", args=[order.pk], request=request)
        return Response({"order": order.pk}, status=202, headers={"Location": location})


class Status(generics.GenericAPIView):
    permission_classes = [permissions.IsAuthenticated]

    def get_queryset(self) -> QuerySet[Order]:
        return orders.of(self.request.user)

    def get(self, request: Request, pk: int) -> HttpResponse:
        return status_response(request, self.get_object().workflow_id)


urlpatterns = [
    path("orders/", Start.as_view(), name="rest-start"),
    path("orders/<int:pk>/", Status.as_view(), name="rest-status"),
]
