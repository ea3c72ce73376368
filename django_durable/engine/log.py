"""The logger of a workflow: silent while the workflow only repeats what it has said before."""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from typing import Any
from uuid import UUID

from django_durable.engine.info import RunInfo

LOGGER = "django_durable.workflow"

_logger = logging.getLogger(LOGGER)


class WorkflowLog(logging.LoggerAdapter[logging.Logger]):
    """Adds to every record whose it is; the ``extra`` of a call is kept beside that."""

    def __init__(self, run: RunInfo, silent: Callable[[], bool]) -> None:
        whose = {
            "workflow": run.name,
            "workflow_id": run.workflow_id,
            "run_id": str(run.run_id),
            "queue": run.queue,
        }
        super().__init__(_logger, whose)
        self._silent = silent

    def rename(self, run_id: UUID) -> None:
        """The run was reset: it has an id of its own from here on."""
        self.extra = {**(self.extra or {}), "run_id": str(run_id)}

    def isEnabledFor(self, level: int) -> bool:
        return not self._silent() and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs
