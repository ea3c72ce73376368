"""Requests to the API of the test's project, with answers that are JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from django.test import Client

PROBLEM = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Answer:
    """The status and the document of an answer."""

    status: int
    document: Any
    headers: Any

    @property
    def problem(self) -> str:
        """The end of the problem's type."""
        assert self.headers["Content-Type"] == PROBLEM, self
        assert self.document["status"] == self.status, self
        return str(self.document["type"]).rpartition(":")[2]


class Requests:
    """Sends requests below ``/durable/``."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def get(self, path: str, **query: Any) -> Answer:
        return self._send("GET", f"{path}?{urlencode(query, doseq=True)}")

    def post(self, path: str, *, key: str | None = None, **body: Any) -> Answer:
        headers = {"Idempotency-Key": key} if key is not None else {}
        return self._send("POST", path, data=body, content_type="application/json", headers=headers)

    def start(self, workflow: str = "flows.order", *args: Any, key: str | None = None, **body: Any) -> Answer:
        return self.post("workflows", key=key, workflow=workflow, args=args, **body)

    def of(self, workflow_id: str, verb: str) -> str:
        return f"workflows/{quote(workflow_id)}/{verb}"

    def _send(self, method: str, path: str, **more: Any) -> Answer:
        response = self.client.generic(method, f"/durable/{path}", **_encoded(more))
        return Answer(response.status_code, response.json() if response.content else None, response.headers)


def _encoded(more: dict[str, Any]) -> dict[str, Any]:
    return {**more, "data": json.dumps(more["data"])} if "data" in more else more
