"""The SAM template of the example: a linter accepts it, and what it names is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cfnlint import api
from cfnlint.decode import cfn_yaml
from django.utils.module_loading import import_string

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "deploy/aws/template.yaml"


def resources() -> Any:
    return cfn_yaml.loads(TEMPLATE.read_text())["Resources"]


def test_the_linter_finds_nothing() -> None:
    assert [str(match) for match in api.lint_file(TEMPLATE)] == []


def test_its_handlers_are_there() -> None:
    handlers = [one["Properties"]["Handler"] for one in resources().values() if "Handler" in one["Properties"]]
    assert len(handlers) == 2
    assert all(callable(import_string(handler)) for handler in handlers)


def test_messages_may_fail_one_by_one_and_come_again_only_when_the_function_is_over() -> None:
    mapping = resources()["Messages"]["Properties"]["Events"]["Hints"]["Properties"]
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    timeout = cfn_yaml.loads(TEMPLATE.read_text())["Globals"]["Function"]["Timeout"]
    assert resources()["Hints"]["Properties"]["VisibilityTimeout"] >= 6 * timeout


def test_the_policy_that_is_shown_is_json() -> None:
    page = (ROOT / "docs/transports.md").read_text()
    policy = json.loads(page.split("```json\n")[1].split("```")[0])
    assert all(one["Effect"] == "Allow" for one in policy["Statement"])
