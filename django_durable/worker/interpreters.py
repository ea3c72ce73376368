"""Interpreters of our own making: started afresh, never forked, with the settings and the path of this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from django.conf import ENVIRONMENT_VARIABLE, settings

from django_durable.exceptions import DurableError


def start(*arguments: str, environment: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
    """Start a Django command. ``options`` are those of ``Popen``.

    Raises ``DurableError`` where there is no settings module to start it with, or ``OSError``.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "django", *arguments],
        env={
            **os.environ,
            ENVIRONMENT_VARIABLE: _settings_module(),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            **(environment or {}),
        },
        **options,
    )


def _settings_module() -> str:
    # Django's own answer is None inside override_settings().
    module = getattr(settings, "SETTINGS_MODULE", None) or os.environ.get(ENVIRONMENT_VARIABLE)
    if not module:
        raise DurableError(
            "A process of its own, for an activity with executor='process' or a worker with --processes or --reload, "
            "needs a settings module: it cannot know what settings.configure() was given here."
        )
    return str(module)
