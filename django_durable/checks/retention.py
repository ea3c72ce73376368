"""System check of how long ended workflows are kept."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.core.checks import CheckMessage, Error

from django_durable import conf
from django_durable.definitions.retention import Policy
from django_durable.exceptions import DefinitionError


def check_retention(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """durable.E011: durations by which nothing could be deleted."""
    declared = conf.declared().get("RETENTION")
    try:
        Policy(declared if isinstance(declared, Mapping | timedelta) else None)  # else durable.E002
    except DefinitionError as error:
        hint = 'Such as {"completed": timedelta(days=30), "failed": timedelta(days=90)}: docs/retention.md.'
        return [Error(str(error), hint=hint, id="durable.E011")]
    return []


ALL = (check_retention,)
