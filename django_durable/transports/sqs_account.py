"""What the SQS transport asks of Amazon: queues are found by name, made, filled, emptied and deleted."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from django_durable.exceptions import DefinitionError

BATCH = 10  # messages in one call, and no more than that
LONGEST_DELAY = 900  # seconds that SQS keeps a message back
HIDDEN_SECONDS = 10  # that a message which was received is kept from other listeners, unless it is deleted before
RETENTION_SECONDS = 3_600  # of queues that are made here: an old hint is no hint
CONNECTIONS = 64  # for listeners: each queue has a thread that waits
FIFO = ".fifo"
MISSING = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"}

_LEGAL = re.compile(r"[A-Za-z0-9_-]{1,75}")

T = TypeVar("T")


class Message(NamedTuple):
    """What is sent to one queue. ``delay`` in seconds."""

    body: str
    delay: int = 0


class Account:
    """The queues of one prefix in one account and region. Makes no connection before it is asked for something."""

    def __init__(
        self, alias: str, options: Mapping[str, Any], *, prefix: str, timeout: float, longest_wait: float
    ) -> None:
        """``options``: of ``boto3.client``. Raises ``DefinitionError`` if they cannot work, naming the transport."""
        self._options = dict(options)
        self._prefix = prefix
        self._timeout = timeout
        self._longest_wait = longest_wait
        self._session = boto3.session.Session()
        self._lock = threading.RLock()
        self._urls: dict[str, str] = {}
        self._clients: dict[tuple[int, bool], Any] = {}
        if not (self._options.get("region_name") or self._session.region_name):
            raise DefinitionError(
                f"Transport {alias!r} needs a region. Set AWS_DEFAULT_REGION, or "
                "'OPTIONS': {'CLIENT': {'region_name': ...}}."
            )

    def name_of(self, queue: str) -> str:
        """The name in SQS for a queue of ours, whatever that is called."""
        name = f"{self._prefix}-{queue}"
        if _LEGAL.fullmatch(name):
            return name
        readable = re.sub(r"[^A-Za-z0-9_-]+", "-", queue)[:20]
        return f"{self._prefix}-{readable}-{hashlib.sha256(queue.encode()).hexdigest()[:16]}"

    def name_of_worker(self, worker: int) -> str:
        """No queue of ours gets such a name."""
        return f"{self._prefix}_worker_{worker}"

    def url(self, place: str) -> str | None:
        """The URL of a queue, given by its name or by its URL. None: nobody has made it."""
        if "://" in place:
            return place
        known = self._urls.get(place)
        if known is None:
            try:
                known = self._client().get_queue_url(QueueName=place)["QueueUrl"]
            except ClientError as error:
                if _is_missing(error):
                    return None
                raise
            self._urls[place] = known
        return known

    def check(self, place: str) -> None:
        """Raise what boto3 raises if SQS does not answer. A queue that nobody has made yet is no error."""
        try:
            self._client().get_queue_url(QueueName=place.rpartition("/")[2])
        except ClientError as error:
            if not _is_missing(error):
                raise

    def make(self, name: str) -> str:
        """The URL of a queue, which is made if it is not there."""
        url = self.url(name)
        if url is None:
            attributes = {"MessageRetentionPeriod": str(RETENTION_SECONDS)}
            if name.endswith(FIFO):
                attributes["FifoQueue"] = "true"
            url = self._client().create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
            self._urls[name] = url
        return url

    def remove(self, name: str) -> None:
        """Delete a queue; it may be gone."""
        url = self.url(name)
        if url is not None:
            self._forgiving("delete_queue", QueueUrl=url)
            self._urls.pop(name, None)

    def workers(self) -> set[int]:
        """The workers that have a queue."""
        start = self.name_of_worker(0)[:-1]
        pages = (
            self._client()
            .get_paginator("list_queues")
            .paginate(QueueNamePrefix=start, PaginationConfig={"PageSize": 1_000})
        )
        names = [url.rpartition("/")[2] for page in pages for url in page.get("QueueUrls", ())]
        return {int(name[len(start) :]) for name in names if name[len(start) :].isdecimal()}

    def send(self, place: str, messages: Sequence[Message]) -> None:
        """Send these to one queue; if nobody has made it, nobody is there to hear. Raises what boto3 raises."""
        url = self.url(place)
        if url is None:
            return
        for some in batched(messages, BATCH):
            entries = [_entry(number, message, url) for number, message in enumerate(some)]
            answer = self._forgiving("send_message_batch", QueueUrl=url, Entries=entries)
            if answer is None:
                self._urls.pop(place, None)
                return
            if answer.get("Failed"):
                refused = answer["Failed"][0]
                raise ConnectionError(f"SQS refused a message: {refused.get('Message') or refused['Code']}")

    def receive(self, url: str, *, seconds: int) -> list[dict[str, Any]]:
        """Up to ten messages, once there are some, or none after ``seconds``."""
        try:
            answer = self._client(waits=True).receive_message(
                QueueUrl=url, MaxNumberOfMessages=BATCH, WaitTimeSeconds=seconds, VisibilityTimeout=HIDDEN_SECONDS
            )
        except ClientError as error:
            if _is_missing(error):
                self._urls.clear()  # it is to be looked for anew, or made
            raise
        received: list[dict[str, Any]] = answer.get("Messages", [])
        return received

    def delete(self, url: str, receipts: Sequence[str]) -> None:
        """These have been heard."""
        for some in batched(receipts, BATCH):
            entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(some)]
            self._forgiving("delete_message_batch", QueueUrl=url, Entries=entries)

    def put_back(self, url: str, receipts: Sequence[str]) -> None:
        """Let others receive these at once."""
        for some in batched(receipts, BATCH):
            entries = [
                {"Id": str(number), "ReceiptHandle": receipt, "VisibilityTimeout": 0}
                for number, receipt in enumerate(some)
            ]
            self._forgiving("change_message_visibility_batch", QueueUrl=url, Entries=entries)

    def close(self) -> None:
        """Hold no connection; they are made anew when they are needed."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _forgiving(self, operation: str, **arguments: Any) -> Any:
        """Ask for something of a queue. None: the queue is gone."""
        try:
            return getattr(self._client(), operation)(**arguments)
        except ClientError as error:
            if _is_missing(error):
                return None
            raise

    def _client(self, *, waits: bool = False) -> Any:
        """A client of this process: connections must not be shared with a parent that has forked it."""
        key = (os.getpid(), waits)
        with self._lock:
            if key not in self._clients:
                config = Config(
                    connect_timeout=self._timeout,
                    read_timeout=self._timeout + (self._longest_wait if waits else 0),
                    retries={"total_max_attempts": 1},  # there is a longer patience: the sender's, the listener's
                    max_pool_connections=CONNECTIONS,
                )
                given = self._options.get("config")
                config = config if given is None else config.merge(given)
                self._clients[key] = self._session.client("sqs", **{**self._options, "config": config})
            return self._clients[key]


def batched(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _entry(number: int, message: Message, url: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"Id": str(number), "MessageBody": message.body}
    if not url.endswith(FIFO):
        return {**entry, "DelaySeconds": message.delay}
    # Equal hints are meant, and none is to wait for another: each is a group, and no duplicate, of its own.
    unique = uuid.uuid4().hex
    return {**entry, "MessageGroupId": unique, "MessageDeduplicationId": unique}


def _is_missing(error: ClientError) -> bool:
    return error.response.get("Error", {}).get("Code") in MISSING
