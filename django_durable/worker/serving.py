"""What a worker offers to carry: its queues, and the definitions that it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django_durable.definitions.activity import Executor
from django_durable.definitions.registry import registry
from django_durable.definitions.workflow import WorkflowDefinition


@dataclass(slots=True, kw_only=True)
class Serving:
    """Read anew at every look, so that whoever drives an engine by hand may change it in between."""

    queues: tuple[str, ...]
    definitions: dict[str, WorkflowDefinition[..., Any]]
    activities: tuple[tuple[str, Executor], ...]
    """Names, and where they run."""

    @classmethod
    def everything(cls, queues: tuple[str, ...]) -> Serving:
        """All that is registered in this process."""
        return cls(
            queues=queues,
            definitions={one.key: one for one in registry.workflows()},
            activities=tuple((one.name, one.executor) for one in registry.activities()),
        )

    def names(self, *, kind: Executor) -> tuple[str, ...]:
        """The activities that one kind of executor runs."""
        return tuple(name for name, executor in self.activities if executor == kind)
