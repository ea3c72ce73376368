"""Every style of view carries an order from its start to its end, and shows it to nobody else."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from example_project.shop.models import Order
from tests.integration.worker.running import wait_for

FACES = ("function", "class", "async", "rest", "ninja")


def logged_in(name: str) -> Client:
    client = Client()
    client.force_login(User.objects.create_user(name))
    return client


@pytest.mark.parametrize("face", FACES)
def test_an_order_goes_all_the_way(face, quick_shop, worker):
    ada = logged_in("ada")
    started = ada.post(f"/faces/{face}/orders/", *_body(face, "mug"))
    assert started.status_code == 202, started.content
    location = started.headers["Location"]
    order = Order.objects.get(pk=started.json()["order"])
    assert order.customer == "ada"
    assert logged_in("eve").get(location).status_code == 404
    wait_for(lambda: ada.get(location).json()["status"] == "completed", "the order to be done")
    answer = ada.get(location)
    assert answer.status_code == 200
    assert answer.json()["result"]["parcel"] == order.shipment.parcel
    again = ada.get(location, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("face", FACES)
def test_what_is_not_sold_is_refused_and_nothing_stored(face):
    refused = logged_in("ada").post(f"/faces/{face}/orders/", *_body(face, "yacht"))
    assert refused.status_code in (400, 422)
    assert not Order.objects.exists()


@pytest.mark.parametrize("face", FACES)
def test_strangers_are_not_served(face):
    assert Client().post(f"/faces/{face}/orders/", *_body(face, "mug")).status_code in (302, 401, 403)
    assert Client().get(f"/faces/{face}/orders/1/").status_code in (302, 401, 403)
    assert not Order.objects.exists()


def _body(face: str, item: str) -> tuple[dict[str, str], ...] | tuple[dict[str, str], str]:
    return ({"item": item}, "application/json") if face == "ninja" else ({"item": item},)
