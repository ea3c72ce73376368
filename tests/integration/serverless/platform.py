"""What AWS does for functions: it polls the queue, makes events, invokes, and deletes what has not failed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from django.conf import settings

from django_durable import transports
from django_durable.contrib.serverless import handlers
from django_durable.transports.sqs import SqsTransport
from tests.integration.transports.servers import SqsServer
from tests.integration.worker.processes import url_of_tests
from tests.integration.worker.running import DEADLINE, wait_for

BASE_DIR = Path(__file__).resolve().parents[3]
SECONDS = 30.0  # that a function has
HANDLERS = "django_durable.contrib.serverless.handlers"

Event = Mapping[str, Any]
Invoke = Callable[..., Any]


class Context:
    """What a function is told about its time."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._until - time.monotonic()) * 1000))


def here(name: str, event: Event, *, seconds: float = SECONDS) -> Any:
    """Invoke a handler in this process."""
    return getattr(handlers, name)(event, Context(seconds))


def in_a_fresh_process(name: str, event: Event, *, seconds: float = SECONDS) -> Any:
    """Invoke a handler in a process that knows nothing but its environment. Raises if it dies."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.serverless.runtime", f"{HANDLERS}.{name}", str(seconds)],
        cwd=BASE_DIR,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DURABLE_TEST_DATABASE_URL": url_of_tests(),
            "DURABLE_TEST_SETTINGS": json.dumps(settings.DURABLE),
        },
        input=json.dumps(event),
        capture_output=True,
        text=True,
        timeout=DEADLINE * 2,
    )
    if done.returncode != 0:
        raise InvocationDied(done.returncode, done.stderr)
    return json.loads(done.stdout)


class InvocationDied(Exception):
    """``args``: the exit code, and what was written to stderr."""


class Platform:
    """The event source mapping of one queue, and the schedule."""

    def __init__(self, sqs: SqsServer, *, invoke: Invoke = here) -> None:
        self.sqs = sqs
        self.url = sqs.make("tests-default")
        self.invoke = invoke
        self.invocations = 0

    def tick(self, *, seconds: float = SECONDS, **event: Any) -> Any:
        self.invocations += 1
        return self.invoke("tick", event, seconds=seconds)

    def receive(self, *, wait: int = 0) -> Event:
        """An event of up to ten messages, none perhaps."""
        self.settle()
        answer = self.sqs.client.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, WaitTimeSeconds=wait, AttributeNames=["All"]
        )
        return {"Records": [self._record(one) for one in answer.get("Messages", [])]}

    def handle(self, event: Event, *, seconds: float = SECONDS) -> list[str]:
        """Invoke with these messages, and delete those that have not failed; the ids of the others."""
        self.invocations += 1
        answer = self.invoke("messages", event, seconds=seconds)
        failed = [one["itemIdentifier"] for one in answer["batchItemFailures"]]
        for one in event["Records"]:
            if one["messageId"] not in failed:
                self.sqs.client.delete_message(QueueUrl=self.url, ReceiptHandle=one["receiptHandle"])
        return failed

    def run_until(self, condition: Callable[[], bool], *, repeat: int = 1, chance: random.Random | None = None) -> None:
        """Handle what arrives, each batch ``repeat`` times, until ``condition()``; with ``chance`` in its order."""

        def done() -> bool:
            event = self.receive(wait=1)
            batches = [event] * repeat if event["Records"] else []
            if chance is not None:
                batches = shuffled(batches, chance)
            for batch in batches:
                self.handle(batch)
            return condition()

        wait_for(done, "the workflows to end", timeout=DEADLINE * 4)

    def settle(self) -> None:
        """Let the hints of this process leave."""
        for transport in transports.all():
            if isinstance(transport, SqsTransport):
                assert transport._sender.wait_until_sent(DEADLINE)

    def _record(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """A record as the documentation of Lambda shows it."""
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message["Attributes"],
            "messageAttributes": {},
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:tests-default",
            "awsRegion": "eu-west-1",
        }


def shuffled(batches: list[Event], chance: random.Random) -> list[Event]:
    """The same messages in other batches of up to ten, in any order."""
    records = [record for batch in batches for record in batch["Records"]]
    chance.shuffle(records)
    return [{"Records": records[start : start + 10]} for start in range(0, len(records), 10)]
