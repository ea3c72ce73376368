"""The run that follows in a chain, as the owner of the run before makes it."""

from __future__ import annotations

import secrets
import sys

from django_durable.engine import commands
from django_durable.history import events
from django_durable.store import following, identifiers
from django_durable.worker.ownership import OwnedRun

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def continued(run: OwnedRun, command: commands.ContinueAsNew) -> following.Following:
    """The run that begins with the new arguments, at once."""
    started = events.RunStarted(
        input=command.input,
        seed=secrets.randbits(63),
        python=PYTHON,
        continued_from=run.claimed.run_id,
        signals=command.signals,
    )
    return _after(run, started)


def _after(run: OwnedRun, started: events.RunStarted) -> following.Following:
    return following.Following(
        chain_id=run.claimed.chain_id,
        ended=run.claimed.run_id,
        run_id=identifiers.uuid7(),
        started=started,
        fingerprint=run.definition.fingerprint,
    )
