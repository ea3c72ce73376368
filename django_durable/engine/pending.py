"""Activities that have no outcome yet."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Literal

from django_durable.engine.commands import ScheduleActivity


class Pending:
    """An activity that the workflow waits for.

    ``worker`` and ``epoch`` say who runs it without a task row: read from history on replay, else None until the
    worker sets them. ``scheduled_at`` is the time of its drain. ``stopping``: it was asked to stop, and its end is
    waited for. ``again``: the run was reset, so it may have neither task row nor anybody who executes it; whether
    somebody did.
    """

    __slots__ = ("again", "command", "epoch", "future", "scheduled_at", "stopping", "ticket", "worker")

    def __init__(self, command: ScheduleActivity, future: asyncio.Future[Any], scheduled_at: datetime) -> None:
        self.command = command
        self.future = future
        self.scheduled_at = scheduled_at
        self.worker: int | None = None
        self.epoch: int | None = None
        self.ticket = 0
        self.stopping = False
        self.again: Literal["again", "interrupted"] | None = None
