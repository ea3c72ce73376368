"""Execute one attempt of an activity: its arguments in, its outcome out, whatever the user's code does."""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from functools import partial
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, async_to_sync, sync_to_async
from django.db import DatabaseError, IntegrityError, InterfaceError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from django_durable import instrumentation, propagation
from django_durable.client import tokens
from django_durable.definitions import current
from django_durable.exceptions import (
    ActivityCancelled,
    ActivityCompletesLater,
    DurableError,
    PayloadUnreadable,
    RetryAfter,
)
from django_durable.history import failures, messages
from django_durable.payloads import codec, payload
from django_durable.payloads.payload import Payload
from django_durable.store import database, flush, outages, outcomes
from django_durable.worker import foreign, reporting
from django_durable.worker.jobs import Finished, Job

READ_BACK_PAUSE = 0.2
UNREADABLE_PAUSE = timedelta(seconds=30)  # before an attempt whose arguments could not be read is made again


class FenceLost(Exception):
    """Another outcome was decided for this atomic activity, or another worker has it."""


class RolledBack(DurableError):
    """The activity's transaction ended without a commit although its code returned."""


def execute(job: Job) -> Finished:
    """Run a sync activity in this thread, unless it was given up before a thread was free for it."""
    if job.given_up:
        return Finished(job=job, lost=True)
    try:
        return contextvars.Context().run(_execute, job)
    except ActivityCompletesLater:
        return Finished(job=job, later=True)
    except BaseException as error:  # SystemExit of an activity must not end the worker's thread
        return failed(job, error)
    finally:
        release_connections()


def _execute(job: Job) -> Finished:
    """In a context of its own: nothing that it sets is left behind for the thread's next job."""
    with current.entered(partial(_current, job)), propagation.restored(job.headers), _surrounded(job):
        try:
            return _execute_atomic(job) if job.definition.options.atomic else _call(job)
        except ActivityCompletesLater:
            raise
        except BaseException as error:  # while everything that surrounds it is there, to be told
            return failed(job, error)


def _call(job: Job) -> Finished:
    args, kwargs = job.definition.decode_input(job.input)
    value = job.function(*args, **kwargs)
    return Finished(job=job, result=job.definition.encode_result(value))


def _surrounded(job: Job) -> AbstractContextManager[object]:
    return instrumentation.attempting(name=job.definition.name)


async def execute_async(job: Job) -> Finished:
    """Run an ``async def`` activity on this thread's event loop, with a thread of its own for sync ORM calls."""
    try:
        with current.entered(partial(_current, job)), propagation.restored(job.headers), _surrounded(job):
            async with ThreadSensitiveContext() as context:
                try:
                    return await _await(job)
                except ActivityCompletesLater:
                    raise
                except BaseException as error:
                    return failed(job, error)
                finally:
                    if context in SyncToAsync.context_to_thread_executor:  # the thread ends with this attempt
                        await sync_to_async(close_connections)()
    except ActivityCompletesLater:
        return Finished(job=job, later=True)
    except BaseException as error:
        return failed(job, error)


def execute_async_here(job: Job) -> Finished:
    """Run an ``async def`` activity to its end; its sync ORM calls happen in this very thread."""
    if job.given_up:
        return Finished(job=job, lost=True)
    try:
        return contextvars.Context().run(_execute_async_here, job)
    except ActivityCompletesLater:
        return Finished(job=job, later=True)
    except BaseException as error:
        return failed(job, error)


def _execute_async_here(job: Job) -> Finished:
    with current.entered(partial(_current, job)), propagation.restored(job.headers), _surrounded(job):
        try:
            return async_to_sync(_await)(job)
        except ActivityCompletesLater:
            raise
        except BaseException as error:
            return failed(job, error)


async def _await(job: Job) -> Finished:
    args, kwargs = job.definition.decode_input(job.input)
    value = await job.function(*args, **kwargs)
    return Finished(job=job, result=job.definition.encode_result(value))


def cancelled(job: Job) -> Finished:
    """The outcome of an activity that was asked to stop and is not executed."""
    return Finished(job=job, failure=messages.stopped(job.key).failure)


def failed(job: Job, error: BaseException) -> Finished:
    """The outcome of an attempt that raised: tried again as the policy says, or final."""
    if job.given_up and isinstance(error, ActivityCancelled | asyncio.CancelledError):
        return cancelled(job)
    failure, delay = failures.from_exception(_trimmed(error)), retry_delay(job, error)
    if not job.given_up:
        reporting.tell(job, failure, delay, error)
    return Finished(job=job, failure=failure, retry_after=delay, told=True)


def retry_delay(job: Job, error: BaseException) -> timedelta | None:
    """How long to wait before the next attempt; None: there is none."""
    if job.given_up and not job.timed_out:
        return None  # it was asked to stop
    if isinstance(error, PayloadUnreadable):  # a worker that has the key or the codec will read it
        return UNREADABLE_PAUSE
    policy = job.definition.options.retry
    try:
        if not policy.allows(error, job.failures):
            return None
    except Exception as broken:  # the user's own predicate
        error.add_note(f"The retry policy's predicate raised {type(broken).__name__}: {broken}")
        return None
    if isinstance(error, RetryAfter):
        return error.delay
    return policy.delay(job.failures, random.random)


def _current(job: Job) -> current.CurrentActivity:
    return current.CurrentActivity(
        name=job.definition.name,
        workflow_id=job.workflow_id,
        run_id=job.run_id,
        attempt=job.attempt,
        failed_attempts=job.failures - 1,
        queue=job.queue,
        idempotency_key=job.key,
        is_cancelled=lambda: job.given_up,
        is_stopping=lambda: job.stopping,
        on_heartbeat=partial(_tell, job),
        on_token=partial(_token, job),
        heartbeat_details=codec.decode(job.last_details, what="Heartbeat details") if job.last_details else None,
    )


def _token(job: Job) -> str:
    """Its signed address. From now on somebody outside may complete it, so it must have its row."""
    name = job.definition.name
    if job.definition.options.atomic:
        raise DurableError(f"Activity {name} is atomic: it is completed by its own transaction, and by no token.")
    if job.held is None and job.pulse is not None:
        job.pulse.open(job)
    if job.held is None:
        raise DurableError(
            f"Activity {name} got no row in time, so its token would lead nowhere. On SQLite, ask for the token "
            "outside of any transaction."
        )
    return tokens.make(job.chain_id, job.key)


def _tell(job: Job, details: Any) -> None:
    stored = None
    if details is not None:
        stored = codec.encode(details, what=f"The heartbeat details of activity {job.definition.name}")
    beat(job, stored)


def beat(job: Job, details: Payload | None) -> None:
    """The attempt is alive, and has told ``details`` or nothing new."""
    job.details = details or job.details
    job.beat_at = time.monotonic()
    if job.pulse is not None:
        job.pulse.beat(job)


def _trimmed(error: BaseException) -> BaseException:
    """Leave everything out of the traceback that is above the activity's own code."""
    entry = below = error.__traceback__
    while entry is not None:
        if entry.tb_frame.f_code.co_filename == __file__ and entry.tb_next is not None:
            below = entry.tb_next
        entry = entry.tb_next
    return error.with_traceback(below)


# Atomic activities


def _execute_atomic(job: Job) -> Finished:
    """The user's writes and the outcome in one transaction, whose last statement proves that it may commit."""
    transaction: list[str] = []
    error: BaseException | None = None
    try:
        with database.writing_guarded():
            args, kwargs = job.definition.decode_input(job.input)
            with foreign.Refusal(job.definition.name):
                value = job.function(*args, **kwargs)
            _check_not_rolled_back(job)
            result = payload.dump(job.definition.encode_result(value))
            own = outcomes.record_success(job.claim, result)
            if own is None:
                raise FenceLost
            transaction.append(own)
    except BaseException as raised:
        error = raised
    return _read_back(job, error, transaction)


def _read_back(job: Job, error: BaseException | None, transaction: list[str]) -> Finished:
    """What really happened is what stands in the outcome's row, not what the block raised or did not raise."""
    place = (job.chain_id, job.key)
    outcome = _when_answered(lambda: _outcome_after(transaction, place), give_up=lambda: job.given_up)
    if outcome is not None and outcome.result is not None:
        return Finished(job=job, result=payload.load(outcome.result))
    if outcome is not None or isinstance(error, FenceLost):
        return Finished(job=job, lost=True)
    if error is None or (isinstance(error, IntegrityError) and transaction):
        error = _rolled_back(job)
    return failed(job, error)


def _check_not_rolled_back(job: Job) -> None:
    """A transaction that is marked for rollback takes no more statements: say why before the outcome's does."""
    if database.connection().needs_rollback:
        raise _rolled_back(job)


def _rolled_back(job: Job) -> RolledBack:
    return RolledBack(
        f"Activity {job.definition.name} returned, but its transaction was rolled back, so nothing of it was "
        "kept. Did it call set_rollback(True)? Raise an exception instead."
    )


def _outcome_after(transaction: list[str], place: tuple[Any, str]) -> outcomes.Outcome | None:
    for own in transaction:
        if flush.is_in_progress(own):
            raise flush.StillInProgress
    return outcomes.read_settled(place)


def _when_answered(ask: Callable[[], Any], *, give_up: Callable[[], bool]) -> Any:
    """Ask the database until it answers: an outage leaves an outcome unknown, not failed."""
    while True:
        try:
            return ask()
        except (DatabaseError, InterfaceError, flush.StillInProgress) as error:
            if not isinstance(error, flush.StillInProgress):
                outages.discard()
            if give_up():
                return None
            time.sleep(READ_BACK_PAUSE)


# Connections of this thread


def refresh_connections() -> None:
    """Close what has broken while this thread did not look, so that the activity opens it anew.

    After an outage every thread has a broken connection; found one by one, they would use an activity's retries up.
    """
    for own in _open_connections():
        if own.errors_occurred or not own.is_usable():
            _close(own)


def release_connections() -> None:
    """After a job: give pooled connections back, drop broken ones, forget the queries that DEBUG collects."""
    for own in _open_connections():
        own.queries_log.clear()
        if own.errors_occurred and not own.is_usable():
            outages.count_loss()
        if own.errors_occurred or own.settings_dict["OPTIONS"].get("pool") or not own.get_autocommit():
            _close(own)


def close_connections() -> None:
    """Close all connections of this thread: it has nothing to do for a while."""
    for own in _open_connections():
        _close(own)


def _close(own: BaseDatabaseWrapper) -> None:
    with suppress(DatabaseError, InterfaceError):  # MariaDB's driver complains of one that is closed
        own.close()
    own.errors_occurred = False


def watch_connections() -> None:
    """From now on this new thread knows by itself whether it has ever connected: asking Django takes a while."""
    _this_thread.untouched = True


def _connected(**_: object) -> None:
    _this_thread.untouched = False


_this_thread = threading.local()
connection_created.connect(_connected, dispatch_uid="durable.attempts")


def _open_connections() -> list[BaseDatabaseWrapper]:
    """This thread's connections that are open; those inside a transaction (of a test) are left alone."""
    if getattr(_this_thread, "untouched", False):
        return []
    return [
        own for own in connections.all(initialized_only=True) if own.connection is not None and not own.in_atomic_block
    ]
