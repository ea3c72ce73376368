"""The run that follows in a chain, as the owner of the run before makes it."""

from __future__ import annotations

import random
import secrets

from django_durable.definitions import attributes, stored_retry
from django_durable.engine import commands
from django_durable.engine.continuing import HistoryTooLong
from django_durable.exceptions import RetryAfter
from django_durable.history import events
from django_durable.release import PYTHON
from django_durable.store import following, identifiers
from django_durable.worker.ownership import OwnedRun


def continued(run: OwnedRun, command: commands.ContinueAsNew) -> following.Following:
    """The run that begins with the new arguments, at once."""
    started = events.RunStarted(
        input=command.input,
        seed=secrets.randbits(63),
        python=PYTHON,
        continued_from=run.claimed.run_id,
        signals=command.signals,
        callbacks=command.callbacks,
        parent=run.instance.beginning.parent,
        attributes=attributes.encode_all(run.instance.attributes),
        headers=run.instance.beginning.headers,
        one_per_subject=run.instance.beginning.one_per_subject,
        singleton_key=run.instance.beginning.singleton_key,
    )
    return _after(run, started)


def retried(run: OwnedRun, command: commands.FailRun) -> following.Following | None:
    """The run that tries again what has failed, after the policy's pause; None if the policy says no.

    Neither what was asked to end nor what has too long a history is tried again.
    """
    if run.claimed.retry is None or command.error is None or run.instance.was_asked_to_end:
        return None
    beginning, error = run.instance.beginning, command.error
    declared = run.definition.options.retry
    policy = stored_retry.load(run.claimed.retry, when=declared.when if declared is not None else None)
    if isinstance(error, HistoryTooLong) or not policy.allows(error, beginning.attempt):
        return None
    started = events.RunStarted(
        input=beginning.input,
        seed=secrets.randbits(63),
        python=PYTHON,
        attempt=beginning.attempt + 1,
        continued_from=run.claimed.run_id,
        signals=command.signals,
        callbacks=command.callbacks,
        parent=beginning.parent,
        attributes=attributes.encode_all(run.instance.attributes),
        headers=beginning.headers,
        one_per_subject=beginning.one_per_subject,
        singleton_key=beginning.singleton_key,
    )
    pause = error.delay if isinstance(error, RetryAfter) else policy.delay(beginning.attempt, random.random)
    return _after(run, started)._replace(delay=pause)


def _after(run: OwnedRun, started: events.RunStarted) -> following.Following:
    return following.Following(
        chain_id=run.claimed.chain_id,
        ended=run.claimed.run_id,
        run_id=identifiers.uuid7(after=run.claimed.run_id),
        started=started,
        fingerprint=run.definition.fingerprint,
    )
