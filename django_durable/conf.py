"""The ``DURABLE`` settings: one dict, read when used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from functools import cache
from typing import Any

from django.conf import settings as django_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings with their defaults. Durations are seconds, sizes are bytes."""

    DATABASE: str = "default"
    """Alias of the database that holds the tables; everything is read and written there, never on a replica."""
    OTHER_TRANSACTIONS: str = "refuse"
    """What is done to a start or a message inside a transaction on another database: ``"refuse"``, ``"warn"``,
    ``"allow"``."""
    TRANSPORTS: Sequence[str] | Mapping[str, Mapping[str, Any]] | None = None
    """Wake-ups: names, or ``{alias: {"BACKEND": ..., "OPTIONS": ...}}``; None: ``postgres`` there, else ``polling``."""
    QUEUES: tuple[str, ...] = ("default",)
    """Queues that a worker serves unless told otherwise."""
    CONCURRENCY: int = 32
    """Activities that one worker process runs at a time in threads."""
    ASYNC_CONCURRENCY: int = 256
    """``async def`` activities that one worker process runs at a time on its event loop."""
    PROCESS_CONCURRENCY: int | None = None
    """``executor="process"`` activities that one worker runs at a time, each in a process; None: one for each CPU."""
    LEASE_SECONDS: float = 15.0
    """A worker whose heartbeat is older than this may be declared dead by another one."""
    INSTANCE_CACHE_SIZE: int = 1_000
    """Workflow instances kept in memory between awaits; 0: every await replays from the start."""
    LINGER_SECONDS: float = 0.2
    """How long a run without anything in flight stays with its owner before it is released."""
    POLL_SECONDS: float | None = None
    """Longest pause between two looks at the database; None: 2.5 with a listening transport, else 0.5."""
    DRAIN_SECONDS: float = 30.0
    """How long a worker that was told to stop waits for running activities."""
    STUCK_SECONDS: float = 2.0
    """Workflow code that runs for longer than this without awaiting is stopped and its run parked."""
    ON_WORKFLOW_ERROR: str = "fail"
    """What a fault in workflow code does to its run: ``"fail"``, or ``"block"`` until other code comes."""
    METRICS_ADDRESS: str = ""
    """Where a worker serves its metrics: ``"9100"``, or ``"127.0.0.1:9100"``; empty: nowhere."""
    METRICS_CACHE_SECONDS: float = 5.0
    """How long the figures of queues that are served as metrics may be old."""
    HEALTH_DIRECTORY: str = ""
    """Where worker processes leave signs of life for ``durable_health``; empty: among the temporary files."""
    EMBEDDED_WORKER: bool = False
    """Run a worker inside the web process (development)."""
    MAX_PAYLOAD_BYTES: int = 2 * 1024 * 1024
    """Largest value that is stored; larger ones are refused before anything is written."""
    WARN_PAYLOAD_BYTES: int = 256 * 1024
    """Values from this size on are logged with a warning."""
    PAYLOADS: Mapping[str, Any] | None = None
    """How values are stored: ``{"FORMAT": "msgpack", "CODECS": [{"BACKEND": ..., "OPTIONS": ...}]}``; None: as JSON."""
    RETENTION: timedelta | Mapping[str, Any] | None = None
    """How long ended workflows are kept, by status: ``{"completed": timedelta(days=30)}``; None: for ever."""
    RETENTION_EXPORT: str = ""
    """Directory into which workflows are written before they are deleted; empty: they are not."""
    MAX_INTERRUPTIONS: int = 10
    """How often an activity may be cut short by dying workers before it fails as interrupted."""

    CALLBACK_URL: str = ""
    """Scheme and host under which the world reaches this project, for the URLs of callbacks: ``https://example.com``."""
    CALLBACK_SECONDS: float = 30 * 24 * 3600.0
    """How long the URL of a callback without a timeout can be used."""
    CALLBACK_MAX_BYTES: int = 64 * 1024
    """Longest body of a POST to the URL of a callback."""
    STATUS_CACHE: Mapping[str, Any] | None = None
    """Where statuses are kept for whoever polls: ``{"ALIAS": "default", "SECONDS": 5}``, an alias of ``CACHES``."""
    API: Mapping[str, Any] | None = None
    """Options of the HTTP API: ``{"AUTH": "shop.api.ApiKey", "FILTER": ...}``."""


NAMES = frozenset(field.name for field in fields(Settings))


def declared() -> dict[str, Any]:
    """The user's own dict, as it stands in the project's settings."""
    return dict(getattr(django_settings, "DURABLE", None) or {})


@cache
def current() -> Settings:
    """The settings as they are now. Unknown names are left to the system checks.

    Read on every hot path, so the answer is kept until Django says that a setting has changed (``forget``).
    """
    return Settings(**{name: value for name, value in declared().items() if name in NAMES})


def forget() -> None:
    """Read the project's settings anew at the next use."""
    current.cache_clear()
