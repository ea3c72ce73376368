"""The logger of a workflow: silent while the workflow only repeats what it has said before."""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from typing import Any
from uuid import UUID

from django_durable.engine.info import RunInfo

LOGGER = "django_durable.workflow"


class WorkflowLog(logging.LoggerAdapter[logging.Logger]):
    """Adds ``workflow_id`` and ``run_id`` to every record; the ``extra`` of a call is kept beside them."""

    def __init__(self, run: RunInfo, silent: Callable[[], bool]) -> None:
        super().__init__(logging.getLogger(LOGGER), {"workflow_id": run.workflow_id, "run_id": str(run.run_id)})
        self._silent = silent

    def rename(self, run_id: UUID) -> None:
        """The run was reset: it has an id of its own from here on."""
        self.extra = {**(self.extra or {}), "run_id": str(run_id)}

    def isEnabledFor(self, level: int) -> bool:
        return not self._silent() and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs
