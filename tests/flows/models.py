"""A ledger that activities write to, so that tests can count what has really happened."""

from __future__ import annotations

from django.db import models


class Entry(models.Model):
    """One effect. ``kind`` says which activity, ``key`` what for."""

    kind = models.CharField(max_length=50)
    key = models.CharField(max_length=100)
    attempt = models.IntegerField(default=1)
    worker = models.CharField(max_length=50, default="")

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"
