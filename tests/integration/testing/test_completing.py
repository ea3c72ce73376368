"""Tokens and callbacks when a test moves the clock."""

from __future__ import annotations

import pytest
from django.test import Client

from django_durable import durable
from django_durable.testing import environment
from tests.flows import lasting

pytestmark = pytest.mark.django_db


def test_an_activity_is_completed_by_its_token():
    with environment() as env:
        handle = env.start(lasting.within, "flows.asks_outside", ["k"])
        env.run_until_idle()
        assert handle.status().status == "running"
        durable.complete_activity(lasting.tokens["k"], 7)
        assert handle.result() == 7


def test_a_callback_is_fulfilled_by_a_post():
    with environment() as env:
        handle = env.start(lasting.waits_for_answer, "k")
        env.run_until_idle()
        assert Client().post(lasting.tokens["k/url"], {"a": 1}, content_type="application/json").status_code == 200
        assert handle.result() == {"a": 1}


def test_a_callback_that_nobody_fulfils_times_out_without_waiting_for_it():
    with environment() as env:
        handle = env.start(lasting.waits_for_answer, "k", 86_400.0)
        assert handle.result(timeout=5)["timeout"] == "timeout"
