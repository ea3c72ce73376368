"""Definitions named by text, for code that does not import them. They are looked up when first needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from django_durable.definitions import options as checks
from django_durable.definitions.activity import ActivityChanges, ActivityDefinition, ActivityOptions, Executor
from django_durable.definitions.registry import Registry
from django_durable.definitions.retention import Keeps
from django_durable.definitions.workflow import OnError, WorkflowChanges, WorkflowDefinition, WorkflowOptions
from django_durable.payloads.signature import CallSignature


class WorkflowReference(WorkflowDefinition[..., Any]):
    """The workflow that is registered as ``name``, with ``changes`` to its options.

    ``wanted``: its version; None: whichever starts by name take.
    """

    def __init__(
        self, name: str, registry: Registry, changes: WorkflowChanges | None = None, wanted: str | None = None
    ) -> None:
        checks.check_text(name, what="The name of a workflow")
        self._name = name
        self._wanted = wanted
        self._registry = registry
        self._changes: WorkflowChanges = changes or {}

    @property
    def target(self) -> WorkflowDefinition[..., Any]:
        """The definition itself. Raises ``UnknownDefinition``."""
        definition = self._registry.workflow(self._name, self._wanted)
        return definition.using(**self._changes) if self._changes else definition

    @property
    def version(self) -> str:
        return self.target.version

    @property
    def is_default(self) -> bool:
        return self.target.is_default

    @property
    def on_error(self) -> OnError | None:
        return self.target.on_error

    @property
    def in_api(self) -> bool:
        return self.target.in_api

    @property
    def retention(self) -> Keeps:
        return self.target.retention

    @property
    def function(self) -> Any:
        return self.target.function

    @property
    def options(self) -> WorkflowOptions:
        return self.target.options

    @property
    def signature(self) -> CallSignature:
        return self.target.signature

    @property
    def fingerprint(self) -> str:
        return self.target.fingerprint

    def __reduce__(self) -> Any:
        return WorkflowReference, (self._name, self._registry, self._changes, self._wanted)

    def __repr__(self) -> str:
        return f"<workflow named {self._name}{f' {self._wanted}' if self._wanted else ''}>"

    def using(self, **options: Unpack[WorkflowChanges]) -> WorkflowReference:
        changes: WorkflowChanges = {**self._changes, **options}
        if "attributes" in options and isinstance(before := self._changes.get("attributes"), Mapping):
            changes["attributes"] = {**before, **options["attributes"]}
        return WorkflowReference(self._name, self._registry, changes, self._wanted)


class ActivityReference(ActivityDefinition[..., Any]):
    """The activity that is registered as ``name``, with ``changes`` to its options."""

    def __init__(self, name: str, registry: Registry, changes: ActivityChanges | None = None) -> None:
        checks.check_text(name, what="The name of an activity")
        self._name = name
        self._registry = registry
        self._changes: ActivityChanges = changes or {}

    @property
    def target(self) -> ActivityDefinition[..., Any]:
        """The definition itself. Raises ``UnknownDefinition``."""
        definition = self._registry.activity(self._name)
        return definition.using(**self._changes) if self._changes else definition

    @property
    def name(self) -> str:
        return self._changes.get("name", self._name)

    @property
    def registered_name(self) -> str:
        return self.target.registered_name

    @property
    def declared_options(self) -> ActivityOptions:
        return self.target.declared_options

    @property
    def function(self) -> Any:
        return self.target.function

    @property
    def options(self) -> ActivityOptions:
        return self.target.options

    @property
    def signature(self) -> CallSignature:
        return self.target.signature

    @property
    def executor(self) -> Executor:
        return self.target.executor

    def __reduce__(self) -> Any:
        return ActivityReference, (self._name, self._registry, self._changes)

    def __repr__(self) -> str:
        return f"<activity named {self._name}>"

    def using(self, **options: Unpack[ActivityChanges]) -> ActivityReference:
        return ActivityReference(self._name, self._registry, {**self._changes, **options})
