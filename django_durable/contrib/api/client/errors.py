"""What the API answers when it does not do what was asked."""

from __future__ import annotations

from typing import Any

import msgspec

PREFIX = "urn:django-durable:problem:"


class ProblemError(Exception):
    """A problem document (RFC 9457). ``code`` is the end of its type, such as ``"workflow-not-found"``.

    ``retry_after``: seconds after which the server says that it may be tried again, or None.
    """

    def __init__(
        self, status: int, code: str, detail: str, *, document: dict[str, Any], retry_after: float | None = None
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.document = document
        self.retry_after = retry_after

    @classmethod
    def of(cls, status: int, body: bytes, *, retry_after: str | None = None) -> ProblemError:
        """The error in an answer; also in one that does not come from the API, but from something before it."""
        try:
            document = msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.DecodeError:
            document = {}
        return cls(
            status,
            str(document.get("type", "")).removeprefix(PREFIX) or "unknown",
            str(document.get("detail", "")) or f"The server answered {status}.",
            document=document,
            retry_after=float(retry_after) if retry_after and retry_after.isdigit() else None,
        )
