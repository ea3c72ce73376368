"""What the worker's command makes of its options."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_durable.management.commands import durable_worker


@pytest.mark.parametrize("given", ["a,b", " a , b,", ["a", "b"], ("a ", "b")])
def test_queues_are_text_with_commas_or_a_list(given: Any) -> None:
    options = {"queues": durable_worker.queues_of(given), "concurrency": 3, "metrics_port": None, "burst": True}
    assert options["queues"] == ("a", "b")
    assert durable_worker.arguments_of({**options, "verbosity": 1}) == [
        "--verbosity=1",
        "--queues=a,b",
        "--concurrency=3",
        "--burst",
    ]


def test_without_queues_the_settings_say_which() -> None:
    assert durable_worker.queues_of(None) is None


@pytest.mark.parametrize("given", ["", " , ", []])
def test_no_queue_at_all_is_refused(given: Any) -> None:
    with pytest.raises(CommandError, match="names no queue"):
        call_command("durable_worker", queues=given)
