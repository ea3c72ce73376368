"""What tests of workflows use: ``environment()`` and what belongs to it.

The names are loaded when they are first used, because pytest imports the plugin beside this before Django is set up.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_durable.testing.crashing import crash_everywhere as crash_everywhere
    from django_durable.testing.environments import Environment as Environment
    from django_durable.testing.environments import environment as environment
    from django_durable.testing.golden import assert_golden as assert_golden
    from django_durable.testing.mocks import Mock as Mock
    from django_durable.testing.replays import assert_replays as assert_replays

__all__ = ["environment", "Environment", "Mock", "assert_replays", "assert_golden", "crash_everywhere"]

_MODULES = {
    "environment": "environments",
    "Environment": "environments",
    "Mock": "mocks",
    "assert_replays": "replays",
    "assert_golden": "golden",
    "crash_everywhere": "crashing",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
