"""What came of one input."""

from __future__ import annotations

from datetime import datetime

import msgspec

from django_durable.engine.commands import Command
from django_durable.engine.showing import Shown
from django_durable.history import events


class Drain(msgspec.Struct, frozen=True, kw_only=True):
    """One input, applied until nothing was runnable, and the commands that it caused.

    Every command has its ``sequence``, behind that of the last event. ``closing`` is the one that ends the run,
    if one does; it is the last of ``commands`` too. ``shown``: what it changed of what people see, if anything.
    """

    input: events.Event
    input_sequence: int
    time: datetime
    commands: tuple[Command, ...]
    closing: Command | None = None
    shown: Shown | None = None
