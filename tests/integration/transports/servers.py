"""Servers that belong to the tests: they may be stopped, killed and emptied."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
from redis import Redis
from redis.exceptions import RedisError

from tests.integration.worker.running import DEADLINE, wait_for


class RedisServer:
    """A Redis that keeps nothing on disk, always on one port of this machine."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return once it answers. Skips the test where there is no Redis, unless that is required."""
        program = shutil.which("redis-server")
        if program is None:
            assert "redis" not in os.environ.get("DURABLE_TEST_REQUIRE", ""), "redis-server is required"
            pytest.skip("redis-server is not installed")
        options = {"port": self.port, "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": self._directory}
        arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen(
            [program, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        wait_for(self.answers, "Redis to answer")

    def kill(self) -> None:
        """SIGKILL: connections break, and nothing is left of what it held."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def stop(self) -> None:
        """SIGSTOP: connections are taken by the kernel, and nobody answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def flush(self) -> None:
        """Forget every key of every database."""
        self._ask("FLUSHALL")

    def publish(self, channel: str, times: int) -> None:
        with Redis.from_url(self.url) as client, client.pipeline(transaction=False) as pipeline:
            for _ in range(times):
                pipeline.publish(channel, "")
            pipeline.execute()

    def keys(self) -> int:
        return int(self._ask("DBSIZE"))

    def restore(self) -> None:
        """As it was when the tests began."""
        if self._process is None:
            self.start()
        self.go_on()
        self.flush()

    def answers(self) -> bool:
        try:
            return bool(self._ask("PING"))
        except RedisError:
            return False

    def _ask(self, *command: str) -> Any:
        with Redis.from_url(self.url, socket_timeout=DEADLINE) as client:
            return client.execute_command(*command)


class SentinelServer:
    """A sentinel that knows one server, under the name ``shop``."""

    def __init__(self, server: RedisServer, directory: Path) -> None:
        self.port = free_port()
        configuration = directory / "sentinel.conf"
        configuration.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {directory}\nsentinel monitor shop 127.0.0.1 {server.port} 1\n"
        )
        self._process = subprocess.Popen(
            ["redis-server", configuration, "--sentinel"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        wait_for(self._knows_its_server, "the sentinel to know its server")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _knows_its_server(self) -> bool:
        try:
            with Redis(port=self.port, socket_timeout=DEADLINE) as client:
                return bool(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "shop"))
        except RedisError:
            return False


class SqsServer:
    """Amazon's SQS as moto plays it, over HTTP, always on one port of this machine."""

    def __init__(self, log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = boto3.client("sqs", **self.options)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What a project would give to boto3."""
        return {
            "endpoint_url": self.url,
            "region_name": "eu-west-1",
            "aws_access_key_id": "tests",
            "aws_secret_access_key": "tests",
        }

    def start(self) -> None:
        """Return once it answers."""
        program = [sys.executable, "-m", "tests.integration.transports.moto_server"]
        with open(self._log, "ab") as output:
            self._process = subprocess.Popen(
                [*program, "--host", "127.0.0.1", "--port", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        wait_for(self._answers, "SQS to answer")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def make(self, name: str, **attributes: str) -> str:
        """A queue's URL."""
        url: str = self.client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return url

    def urls(self, start: str = "") -> list[str]:
        urls: list[str] = self.client.list_queues(QueueNamePrefix=start).get("QueueUrls", [])
        return urls

    def waiting(self, url: str) -> int:
        """How many messages a queue has."""
        name = "ApproximateNumberOfMessages"
        return int(self.client.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])

    def empty(self, start: str = "") -> None:
        """Throw away every message of these queues."""
        for url in self.urls(start):
            try:
                self.client.purge_queue(QueueUrl=url)
            except self.client.exceptions.PurgeQueueInProgress:  # which is allowed once a minute
                while received := self.client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
                    for one in received:
                        self.client.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])

    def restore(self) -> None:
        """As it was when the tests began."""
        urlopen(Request(f"{self.url}/moto-api/reset", method="POST"), timeout=DEADLINE).close()

    def _answers(self) -> bool:
        try:
            urlopen(f"{self.url}/moto-api/data.json", timeout=DEADLINE).close()
        except OSError:
            return False
        return True


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
