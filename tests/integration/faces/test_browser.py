"""``{% durable_progress %}`` in a real browser, under a policy that allows no inline script and no inline style."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import path

from django_durable import durable
from django_durable.shortcuts import status_response
from tests.flows import showing
from tests.integration.worker.running import DEADLINE, MakeWorker

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS: tuple[str, ...] = (
    "headless",
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "disable-sync",
    "disable-background-networking",
)
FLAGS += ("disable-component-update", "no-first-run", "virtual-time-budget=120000", "dump-dom")
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:"
PAGE = """{% load durable %}<!doctype html><title>Shown</title><link rel="icon" href="data:,">
{% url "status" as status_url %}{% durable_progress "shown" status_url %}"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")]

Browse = Callable[[], str]


class Site:
    """A page and its status view. ``before_poll`` are called, one before each answer."""

    def __init__(self) -> None:
        self.polls = 0
        self.before_poll: list[Callable[[], Any]] = []
        self.urlpatterns = [path("", self.page), path("status/", self.status, name="status")]

    def page(self, request: HttpRequest) -> HttpResponse:
        text = engines["django"].from_string(PAGE).render({}, request)
        return HttpResponse(text, headers={"Content-Security-Policy": POLICY})

    def status(self, request: HttpRequest) -> HttpResponse:
        self.polls += 1
        if self.before_poll:
            self.before_poll.pop(0)()
        return status_response(request, "shown")


@pytest.fixture
def site(settings: Any) -> Site:
    site = Site()
    settings.ROOT_URLCONF = site
    return site


@pytest.fixture
def browse(live_server: Any, tmp_path: Path) -> Browse:
    """The document as it is after two minutes of the browser's time, which stands still while it waits for answers."""

    def browse() -> str:
        assert BROWSER is not None
        flags = [f"--{flag}" for flag in (*FLAGS, f"user-data-dir={tmp_path}")]
        ended = subprocess.run(
            [BROWSER, *flags, live_server.url], capture_output=True, text=True, check=True, timeout=60
        )
        return ended.stdout

    return browse


def test_it_follows_a_run_to_its_end_and_then_asks_no_more(site, browse, make_worker: MakeWorker):
    handle = durable.start_workflow(showing.shown.using(workflow_id="shown"), 2)

    def let_it_end() -> None:
        make_worker()
        handle.signal("go")
        handle.result(timeout=DEADLINE)

    site.before_poll = [lambda: None, _fail, let_it_end]
    text = browse()
    assert re.search(r"<durable-progress[^>]* data-state=\"completed\"", text)
    assert re.search(r'data-part="word">Done</strong> <span data-part="text"><', text)
    assert re.search(r'<progress[^>]* max="1" value="1"', text)
    assert re.search(r'data-part="problem" hidden=""></p>', text)  # what was said after the error is gone again
    assert site.polls == 3


def _fail() -> None:
    raise ConnectionError("as while a server restarts")


def test_it_asks_ever_less_often(site, browse):
    durable.start_workflow(showing.shown.using(workflow_id="shown"), 2)
    assert 'data-state="pending"' in browse()
    assert 5 <= site.polls <= 20  # every second would be 120
