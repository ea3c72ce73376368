"""Updates: named calls to a running workflow, which answers them with a value or an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any, Literal, TypedDict, Unpack, get_args

import msgspec

from django_durable.definitions import options as checks
from django_durable.payloads import arguments
from django_durable.payloads.payload import Payload

Wait = Literal["completed", "accepted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateOptions:
    """How a caller updates."""

    update_id: str | None = None
    """The caller's own id: an update that is sent again with it is carried out once. 1 to 255 printable characters."""
    timeout: float | timedelta | None = None
    """How long to wait for the reply; a timedelta or seconds."""
    wait: Wait = "completed"
    """For what: the reply, or only that the workflow has accepted the update."""


class UpdateChanges(TypedDict, total=False):
    """Options of an update, for ``using()`` of a handle."""

    update_id: str | None
    timeout: float | timedelta | None
    wait: Wait


KNOWN = frozenset(option.name for option in fields(UpdateOptions))


def changed_options(options: UpdateOptions, changes: Mapping[str, Any]) -> UpdateOptions:
    """Options with changes. Raises ``DefinitionError`` for what cannot work."""
    checks.check_names(changes, known=KNOWN, owner="An update")
    options = replace(options, **changes)
    if options.update_id is not None:
        checks.check_text(options.update_id, what="update_id")
    checks.check_choice(options.wait, name="wait", choices=get_args(Wait), owner="An update")
    return options


class UpdateMessage(msgspec.Struct, frozen=True):
    """An update on its way: its name and its stored arguments. ``changes`` are its options beside the handle's."""

    name: str
    input: Payload
    changes: dict[str, Any] = {}

    def using(self, **options: Unpack[UpdateChanges]) -> UpdateMessage:
        """The same message with other options: ``update_id``, ``timeout``, ``wait``; what is not given stays."""
        changed = msgspec.structs.replace(self, changes={**self.changes, **options})
        changed.options(UpdateOptions())
        return changed

    def options(self, given: UpdateOptions) -> UpdateOptions:
        """``given``, changed by the message's own. Raises ``DefinitionError`` for what cannot work."""
        return changed_options(given, self.changes)


class UpdateDefinition:
    """A declared update. Calling it makes a message: ``rename("x")``."""

    def __init__(self, name: str) -> None:
        checks.check_text(name, what="The name of an update")
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> UpdateMessage:
        """A message with these arguments. Raises ``PayloadError`` if they cannot be stored."""
        packed = arguments.pack(args, kwargs, what=f"The arguments of update {self.name!r}")
        return UpdateMessage(self.name, packed)

    def __repr__(self) -> str:
        return f"<update {self.name}>"


def as_message(
    update: str | UpdateDefinition | UpdateMessage, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
) -> UpdateMessage:
    """What a verb that updates was given, as a message. Raises ``TypeError`` for arguments beside a ready message."""
    if isinstance(update, UpdateMessage):
        if args or kwargs:
            raise TypeError(
                f"The message {update.name!r} carries its arguments already; {args!r} {kwargs!r} would be others."
            )
        return update
    if isinstance(update, str):
        update = UpdateDefinition(update)
    if not isinstance(update, UpdateDefinition):
        raise TypeError(f'An update is a name, durable.update("name"), or a message that such a one made: {update!r}.')
    return update(*args, **(kwargs or {}))
