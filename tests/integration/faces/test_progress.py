"""``{% durable_progress %}``: what stands in the page, before and without any script."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.template import Context, Template, TemplateSyntaxError
from django.test import RequestFactory

from django_durable import WorkflowNotFound, durable
from django_durable.models import WorkflowRun
from tests.flows import workflows

INLINE = re.compile(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", re.IGNORECASE)


def render(run: Any, url: str = "/status/", **context: Any) -> str:
    page = Template("{% load durable %}{% durable_progress run url %}")
    return page.render(Context({"run": run, "url": url, "request": RequestFactory().get("/orders/?page=2"), **context}))


@pytest.fixture
def handle() -> Any:
    return durable.start_workflow(workflows.echo.using(workflow_id="shown"), 1)


def parts(text: str) -> tuple[Any, ...]:
    (state,) = re.findall(r'data-state="(\w+)"', text)
    (bar,) = re.findall(r"<progress([^>]*)>", text)
    return state, dict(re.findall(r'(max|value)="([^"]*)"', bar)), "hidden" in bar


@pytest.mark.parametrize("kind", ["handle", "id", "run", "status"])
def test_it_shows_whatever_stands_for_a_run(handle, kind):
    given = {
        "handle": handle,
        "id": "shown",
        "run": WorkflowRun.objects.get(),
        "status": handle.status(),
    }
    assert parts(render(given[kind])) == ("pending", {}, False)


@pytest.mark.parametrize("given", [None, "", 7])
def test_what_is_no_run_is_a_mistake_in_the_template(given):
    with pytest.raises(TemplateSyntaxError, match="workflow id"):
        render(given)


def test_what_is_not_there_is_said():
    with pytest.raises(WorkflowNotFound):
        render("nobody")


def test_an_open_run_is_polled_by_a_script_of_its_own_and_has_a_link_without(handle):
    text = render(handle, csp_nonce="abc")
    assert not INLINE.search(text)
    assert re.findall(r"<script[^>]*>", text) == [
        '<script type="module" src="/static/django_durable/progress.js" nonce="abc">'
    ]
    assert 'data-url="/status/"' in text
    assert re.search(r'<noscript><p><a href="/orders/\?page=2">Refresh</a></p></noscript>', text)
    assert re.search(r'role="status" aria-live="polite"', text)
    for link in re.findall(r'(?:src|href)="/static/([^"]+)"', text):
        assert finders.find(link), link


def test_it_shows_how_far_a_run_is(handle, settings):
    settings.LANGUAGE_CODE, settings.USE_THOUSAND_SEPARATOR = "de", True  # figures in attributes are not for people
    WorkflowRun.objects.update(progress=json.dumps({"text": "<b>packing</b>", "done": 1500.5, "total": 3000}))
    text = render(handle)
    assert parts(text)[1] == {"max": "3000", "value": "1500.5"}
    assert "&lt;b&gt;packing&lt;/b&gt;" in text


def test_an_ended_run_is_neither_polled_nor_has_scripts(handle):
    handle.terminate("enough <of> it")
    text = render(handle)
    assert parts(text) == ("terminated", {}, True)
    assert "<script" not in text
    assert "data-url" not in text
    assert "enough &lt;of&gt; it" in text


def test_a_completed_run_has_a_full_bar(handle):
    WorkflowRun.objects.update(status="completed", open_workflow_id=None)
    assert parts(render(handle)) == ("completed", {"max": "1", "value": "1"}, False)


def test_without_a_url_it_stays_as_it_is(handle):
    text = render(handle, url="")
    assert "<script" not in text
    assert "<noscript" not in text
