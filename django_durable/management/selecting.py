"""Which runs a command is about, from its options."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from django_durable.history.status import Status
from django_durable.querysets import RunQuerySet
from django_durable.store import runs

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str) -> datetime:
    """A date, a time, or how long ago: ``2026-03-01``, ``2026-03-01T12:00``, ``36h``, ``7d``."""
    ago = re.fullmatch(r"(\d+)([mhdw])", text)
    if ago:
        return timezone.now() - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        parsed = parse_datetime(text)
        date = parse_date(text) if parsed is None else None
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
    if parsed is None and date is None:
        raise ArgumentTypeError(f"{text!r} is neither a date, nor a time, nor an age such as 36h or 7d")
    found = parsed if parsed is not None else datetime.combine(date or datetime.max, datetime.min.time())
    return found if timezone.is_aware(found) else timezone.make_aware(found)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--name", action="append", metavar="NAME", help="only runs of this workflow; may be repeated")
    parser.add_argument(
        "--since", type=moment, help="only runs started since then: 2026-03-01, 2026-03-01T12:00, 36h, 7d"
    )


def status(text: str) -> Status:
    try:
        return Status(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is none of {', '.join(Status)}") from error


def selected(*, name: list[str] | None, since: datetime | None) -> RunQuerySet:
    found = runs.rows()
    if name:
        found = found.filter(name__in=name)
    return found if since is None else found.filter(created_at__gte=since)
