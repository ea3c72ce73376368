from __future__ import annotations

from django.urls import path

from example_project.shop import views

app_name = "shop"
urlpatterns = [
    path("", views.index, name="index"),
    path("orders/", views.place_order, name="place-order"),
    path("orders/<int:pk>/", views.order_status, name="order-status"),
    path("orders/<int:pk>/page/", views.order_page, name="order-page"),
    path("orders/<int:pk>/steps/", views.order_steps, name="order-steps"),
]
