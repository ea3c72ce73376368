"""Checks of workflow code. They only read it, and only warn: what they find may be meant."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.checks import CheckMessage, Warning

from django_durable.checks.reading import Finding, Reader
from django_durable.definitions.registry import registry
from django_durable.exceptions import DefinitionError


def check_code(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """durable.W101 to durable.W113: workflow code that cannot be replayed, or does nothing."""
    workflows, activities = registry.workflows(), registry.activities()
    names = {one.name for one in workflows}, {one.name for one in activities}
    reader = Reader(knows_workflow=names[0].__contains__, knows_activity=names[1].__contains__)
    with _without_collecting():
        found = [
            _warning(finding, f"Workflow {definition.name}")
            for definition in workflows
            for finding in sorted(reader.read(definition.function), key=lambda one: (one.file, one.line, one.id))
        ]
        return found + [_warning(finding, "The module") for finding in reader.read_modules()]


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Syntax trees are many small objects: looking for garbage among them takes a quarter of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def check_annotations(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """durable.W114: arguments and results of types that cannot be stored."""
    return [_warning(finding, "") for finding in _unfit()]


def _unfit() -> Iterator[Finding]:
    for definition in registry:
        try:
            definition.signature.check()
        except DefinitionError as error:
            yield Finding(
                "durable.W114",
                *definition.place,
                str(error),
                "Use types that JSON can hold, such as dataclasses; docs/payloads.md lists them.",
            )


def _warning(finding: Finding, owner: str) -> CheckMessage:
    said = f"{owner} {finding.what}." if owner else finding.what
    return Warning(said, hint=finding.hint, obj=f"{finding.file}:{finding.line}", id=finding.id)


ALL = (check_code, check_annotations)
