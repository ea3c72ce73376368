"""Rows of our tables, for tests that look at them without running anything."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from factory.declarations import LazyAttribute, LazyFunction, SelfAttribute, Sequence, SubFactory
from factory.django import DjangoModelFactory

from django_durable import models
from django_durable.history.status import Status


def now() -> datetime:
    return datetime.now(UTC)


class WorkflowRunFactory(DjangoModelFactory[models.WorkflowRun]):
    """An open run without a dispatch row."""

    class Meta:
        model = models.WorkflowRun

    id = LazyFunction(uuid.uuid4)
    chain_id = SelfAttribute("id")
    workflow_id = Sequence("order-{}".format)
    name = "shop.process_order"
    queue = "default"
    status = Status.RUNNING
    input = '["json",{"order_id":1}]'
    created_at = LazyFunction(now)


class DispatchFactory(DjangoModelFactory[models.Dispatch]):
    """The dispatch row of ``run``, unclaimed and due."""

    class Meta:
        model = models.Dispatch
        exclude = ("run",)

    run: Any = SubFactory(WorkflowRunFactory)
    chain_id = SelfAttribute("run.chain_id")
    run_id = SelfAttribute("run.id")
    queue = SelfAttribute("run.queue")
    definition = SelfAttribute("run.name")
    wakeup_at = LazyFunction(now)
    started_at = LazyAttribute(lambda row: now() if getattr(row, "epoch", 0) else None)  # as the first claim sets it


class HistoryEventFactory(DjangoModelFactory[models.HistoryEvent]):
    """An event of ``run``."""

    class Meta:
        model = models.HistoryEvent
        exclude = ("run",)

    run: Any = SubFactory(WorkflowRunFactory)
    run_id = SelfAttribute("run.id")
    sequence = 1
    type = "RunStarted"
    time = LazyFunction(now)
    data = '{"input":["json",{"order_id":1}],"seed":7,"python":"3.12"}'


class InboxMessageFactory(DjangoModelFactory[models.InboxMessage]):
    class Meta:
        model = models.InboxMessage

    chain_id = LazyFunction(uuid.uuid4)
    data = '{"type":"cancel"}'
    created_at = LazyFunction(now)


class ActivityTaskFactory(DjangoModelFactory[models.ActivityTask]):
    """An activity of ``run`` that is due."""

    class Meta:
        model = models.ActivityTask
        exclude = ("run",)

    run: Any = SubFactory(WorkflowRunFactory)
    chain_id = SelfAttribute("run.chain_id")
    run_id = SelfAttribute("run.id")
    workflow_id = SelfAttribute("run.workflow_id")
    queue = SelfAttribute("run.queue")
    key = Sequence("key-{}".format)
    scheduled = Sequence(lambda number: number + 2)
    name = "shop.charge_card"
    input = '["json",{}]'
    options = ""
    due_at = LazyFunction(now)


class WorkerFactory(DjangoModelFactory[models.Worker]):
    """A live worker."""

    class Meta:
        model = models.Worker

    name = Sequence("host:{}".format)
    queues = "default"
    definitions = "shop.process_order"
    concurrency = 8
    release = "0.1.0"
    started_at = LazyFunction(now)
    heartbeat_at = LazyFunction(now)
    expires_at = LazyFunction(lambda: now() + timedelta(seconds=60))
