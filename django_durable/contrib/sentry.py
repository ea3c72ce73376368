"""Tags for Sentry: which workflow, activity and attempt an event is about. Needs nothing of Sentry's own."""

from __future__ import annotations

from typing import Any

from django_durable import log_context


def before_send(event: Any, hint: dict[str, Any]) -> Any:
    """For ``sentry_sdk.init(before_send=...)``: fields of the log record, or of the running activity, become tags."""
    record = hint.get("log_record")
    fields = log_context.running()
    fields |= {name: getattr(record, name) for name in log_context.FIELDS if hasattr(record, name)}
    event["tags"] = {**{name: str(value) for name, value in fields.items()}, **(event.get("tags") or {})}
    return event
