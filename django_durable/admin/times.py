"""Moments and durations as people read them."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def moment(value: datetime, *, milliseconds: bool = False) -> SafeString:
    """A time in the current time zone: ISO order, because it is compared with logs."""
    local = _local(value)
    text = local.replace(tzinfo=None).isoformat(" ", "milliseconds" if milliseconds else "seconds")
    return format_html('<time datetime="{}" title="{}">{}</time>', value.isoformat(), local.tzname() or "", text)


def age(value: datetime, now: datetime) -> SafeString:
    """How long ago ``value`` was; the moment itself is its tooltip."""
    title = _local(value).isoformat(" ", "milliseconds")
    return format_html('<time datetime="{}" title="{}">{}</time>', value.isoformat(), title, duration(now - value))


def duration(value: timedelta) -> str:
    """A length of time in its two largest units: ``"350 ms"``, ``"4.2 s"``, ``"3 min 20 s"``, ``"2 d 4 h"``.

    Two clocks are never quite the same, so a negative one reads as none at all.
    """
    seconds = max(0.0, value.total_seconds())
    if seconds < 1:
        return f"{seconds * 1_000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for place, (unit, size) in enumerate(UNITS):
        if whole >= size:
            rest = UNITS[place + 1 : place + 2]
            smaller = f" {whole % size // rest[0][1]} {rest[0][0]}" if rest and whole % size >= rest[0][1] else ""
            return f"{whole // size} {unit}{smaller}"
    return "0 ms"


def _local(value: datetime) -> datetime:
    return timezone.localtime(value) if timezone.is_aware(value) else value
