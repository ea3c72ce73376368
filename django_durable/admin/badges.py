"""States as badges. Their colours are in the stylesheet and follow the admin's theme; the word is always there."""

from __future__ import annotations

from django.utils.html import format_html
from django.utils.safestring import SafeString


def badge(state: str) -> SafeString:
    """``state`` as a badge: a run's status, or alive, late, stopping, dead of a worker."""
    return format_html('<span class="durable-badge durable-{}">{}</span>', state, state.replace("_", " "))
