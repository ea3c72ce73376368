"""The handlers to name in a function's configuration. ``DJANGO_SETTINGS_MODULE`` is all they need."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Protocol, TypeVar

import django
from django.apps import apps
from django.db import connections

if not apps.ready:
    django.setup()

from django_durable import conf, durable, transports
from django_durable.contrib.serverless import records
from django_durable.contrib.serverless.records import Failures, Record
from django_durable.transports.sqs import SqsTransport

MARGIN_SECONDS = 3.0  # of a function's time that is left to the hand-back and the answer
LEAST_SECONDS = 1.0  # that are worth beginning to work

logger = logging.getLogger("django_durable.serverless")

Answer = TypeVar("Answer")


class LambdaContext(Protocol):
    """What is used of the second argument that Lambda gives."""

    def get_remaining_time_in_millis(self) -> int: ...


def _invocation(
    handler: Callable[[Mapping[str, Any], LambdaContext], Answer],
) -> Callable[[Mapping[str, Any], LambdaContext], Answer]:
    """No connection of this thread outlives the invocation either: the process may be frozen for hours."""

    @wraps(handler)
    def invoked(event: Mapping[str, Any], context: LambdaContext) -> Answer:
        try:
            return handler(event, context)
        finally:
            connections.close_all()
            transports.rest(MARGIN_SECONDS)

    return invoked


@_invocation
def messages(event: Mapping[str, Any], context: LambdaContext) -> Failures:
    """Work in the queues that the messages of an SQS event name, until nothing is due there or the time is up.

    The event source mapping needs ``ReportBatchItemFailures``. Messages that are none of ours are reported as failed,
    and so are all if there was no database: they come again after the queue's visibility timeout. Those about queues
    in which something is left when the time is up come again at once. What only the limits of its queue keep waiting is
    left to a message that comes when they let in more.
    """
    hints, wrong = _read(event["Records"])
    asked = {hint.queue for hint in hints if hint.queue is not None}
    if not asked:
        return records.failures(wrong)
    try:
        left = _work(asked, context)
    except Exception:
        logger.exception("Nothing could be done in %s: its messages are left to another try.", ", ".join(sorted(asked)))
        return records.failures([*wrong, *(hint.message_id for hint in hints)])
    late = [hint for hint in hints if hint.queue in left]
    _hand_back(late)
    return records.failures([*wrong, *(hint.message_id for hint in late)])


@_invocation
def tick(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Work at whatever is due in ``event["queues"]``, or in those of the settings: what no hint has told of.

    So it bounds how late anything is: timers beyond the longest delay of SQS, lost hints, schedules, time limits, and
    what functions had that were killed. Returns what it did. Raises ``WorkBatchFailed``.
    """
    seconds = max(LEAST_SECONDS, _seconds(context))
    batch = durable.work_batch(max_seconds=seconds, queues=event.get("queues"), wait_for_places=False)
    if not batch.finished:
        for queue in batch.left:
            transports.hint_work(queue)
    return batch.as_dict()


def _read(raw: Sequence[Mapping[str, Any]]) -> tuple[list[Record], list[str]]:
    """The hints, and the ids of messages that are none."""
    hints, wrong = [], []
    for one in raw:
        try:
            hints.append(records.read(one))
        except records.NoHint as error:
            logger.error("Message %s is no hint: %s.", one["messageId"], error)
            wrong.append(one["messageId"])
    return hints, wrong


def _work(asked: set[str], context: LambdaContext) -> set[str]:
    """Work for what is left of the time; returns those of the queues in which something is due still."""
    seconds = _seconds(context)
    if seconds < LEAST_SECONDS:
        return asked
    schedules = asked & {transports.SCHEDULES}  # every worker sees to them
    queues = sorted(asked - schedules) or conf.current().QUEUES[:1]
    batch = durable.work_batch(max_seconds=seconds, queues=queues, recover=False, wait_for_places=False)
    return set() if batch.finished else {*batch.left, *schedules}


def _seconds(context: LambdaContext) -> float:
    return context.get_remaining_time_in_millis() / 1000 - MARGIN_SECONDS


def _hand_back(late: Sequence[Record]) -> None:
    """Let SQS deliver these at once. If that cannot be asked for they come after the queue's visibility timeout."""
    for place, receipts in records.receipts(late).items():
        for transport in transports.all():
            if isinstance(transport, SqsTransport):
                try:
                    transport.put_back(place, receipts)
                except Exception as error:  # botocore has trees of errors
                    logger.warning("Messages of %s come again only after its visibility timeout: %s", place, error)
