"""Where a list goes on: opaque to clients, signed, and good for the same question only."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from django.core import signing
from django.db.models import Q

from django_durable.contrib.api.problems import Problem
from django_durable.models import WorkflowRun

SALT = "django_durable.api.cursor"


def after(run: WorkflowRun, question: Any) -> str:
    """The cursor behind ``run`` in the answer to ``question``, a JSON value."""
    return signing.dumps([run.created_at.isoformat(), run.pk.hex, _digest(question)], salt=SALT)


def condition(cursor: str, question: Any) -> Q:
    """What the runs behind a cursor have in common, the latest first. Raises a 400 ``Problem`` for what is none."""
    try:
        created, run_id, asked = signing.loads(cursor, salt=SALT)
    except signing.BadSignature:
        raise Problem(400, "bad-cursor", "This cursor was not made here. Ask for the first page.") from None
    if asked != _digest(question):
        raise Problem(400, "bad-cursor", "This cursor belongs to other filters. Ask for the first page of these.")
    moment = datetime.fromisoformat(created)
    # The first half is what an index by time can use; the second tells apart what was started at the same time.
    return Q(created_at__lte=moment) & (Q(created_at__lt=moment) | Q(pk__lt=UUID(run_id)))


def _digest(question: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(question, order="deterministic")).hexdigest()[:16]
