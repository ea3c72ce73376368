"""A worker: its threads, its lease, its life from registration to the last release."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import time
from collections import deque
from uuid import UUID

from django.db import DatabaseError, InterfaceError

from django_durable import conf, instrumentation, transports
from django_durable.release import VERSION
from django_durable.store import database, identifiers, leases, outages, status_cache
from django_durable.transports.base import Listener
from django_durable.worker import reporting
from django_durable.worker.engine import Engine
from django_durable.worker.executors import AsyncExecutor, Slots, ThreadExecutor
from django_durable.worker.flushing import Stopped
from django_durable.worker.heartbeat import Heartbeat
from django_durable.worker.instances import InstanceCache
from django_durable.worker.jobs import Finished
from django_durable.worker.liveness import Sign
from django_durable.worker.maintenance import Maintenance
from django_durable.worker.ownership import OwnedRun
from django_durable.worker.pace import Pace
from django_durable.worker.patience import Patience
from django_durable.worker.processes import ProcessExecutor
from django_durable.worker.serving import Serving
from django_durable.worker.status_writer import StatusWriter
from django_durable.worker.watchdog import Watchdog
from django_durable.worker.wire import Report

logger = logging.getLogger("django_durable.worker")

NO_TABLES = "The tables of django_durable are not there: apply the migrations (manage.py migrate)"
SWITCH_INTERVAL = 0.0005  # seconds; with CPU-bound activities the engine gets 25 times as many turns as with 0.005
COLLECT_AFTER = (50_000, 20, 50)  # in a process of its own: a tenth less processor time a step than with the defaults
LISTENING_POLL = 2.5  # seconds between looks of an idle worker that transports wake
SILENT_POLL = 0.5
WATCH_SECONDS = 0.25
GIVE_UP_SHARE = 1 / 3  # of the lease: a worker whose engine is stuck for longer ends itself
AUDIT_SECONDS = 15.0
EXIT_STUCK = 70  # EX_SOFTWARE of sysexits.h
EXIT_LOST_SLOTS = 75  # EX_TEMPFAIL: a supervisor should start a new process


class Worker:
    """Carries runs and activities of some queues. ``start`` returns at once, ``join`` waits for the end."""

    def __init__(
        self,
        *,
        queues: tuple[str, ...] | None = None,
        concurrency: int | None = None,
        burst: bool = False,
        may_exit: bool = False,
        listens: bool = True,
        waits_for_dead: bool = False,
        waits_for_places: bool = True,
    ) -> None:
        """``burst``: end when nothing is due. ``may_exit``: the process is the worker's own, to end if stuck.

        ``listens``: to wake-ups. ``waits_for_dead``: with ``burst``, a worker whose lease has run out is something due;
        ``waits_for_places``: and so is what the limits of its queue let in later.
        """
        settings = conf.current()
        self.queues = queues or tuple(settings.QUEUES)
        self.id: int | None = None
        self.exit_code = 0
        self.engine: Engine | None = None
        self._burst = burst
        self._may_exit = may_exit
        self._listens = listens
        self._waits_for_dead = waits_for_dead
        self._waits_for_places = waits_for_places
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._started_at = 0.0
        self._drain_until = 0.0
        self._serving = Serving.everything(self.queues)
        threads = ThreadExecutor(concurrency or settings.CONCURRENCY, self._report)
        self._slots = Slots(
            threads=threads,
            loop=AsyncExecutor(settings.ASYNC_CONCURRENCY, self._report),
            processes=ProcessExecutor(settings.PROCESS_CONCURRENCY or os.cpu_count() or 1, self._report),
        )
        self._finished: deque[Finished] = deque()  # outlives engines: each holds a slot until it is collected
        self._watchdog = Watchdog()
        self._cache = InstanceCache()
        self._sign = Sign(self.queues) if may_exit else None
        self._listeners: list[Listener] = []
        self._heartbeat = Heartbeat(lambda: self.id, self._progress, self._ask_for_sweep)
        self._maintenance = Maintenance(
            lambda: self.id,
            may_judge=self._heartbeat.may_judge,
            definitions=self._serving.definitions,
            wake=self.wake,
        )
        self._statuses = StatusWriter()
        self._thread = threading.Thread(target=self._run, name="durable-engine", daemon=True)

    # Life

    def start(self) -> None:
        """Begin to work in threads of its own."""
        self._started_at = time.monotonic()
        if sys.getswitchinterval() > SWITCH_INTERVAL:
            sys.setswitchinterval(SWITCH_INTERVAL)
        if self._may_exit:
            gc.freeze()  # what is loaded by now stays: no collection need look at it again
            gc.set_threshold(*COLLECT_AFTER)
        self._thread.start()
        self._heartbeat.start()
        self._maintenance.start()
        if status_cache.is_configured():
            self._statuses.start()
        threading.Thread(target=self._watch, name="durable-watchdog", daemon=True).start()

    def stop(self, *, within: float | None = None) -> None:
        """Take nothing more, hand runs over, wait for running activities up to ``DRAIN_SECONDS``, then end.

        ``within``: seconds to wait for them instead.
        """
        self._drain_until = time.monotonic() + (conf.current().DRAIN_SECONDS if within is None else within)
        self._stopping.set()
        self.wake()

    def force_stop(self) -> None:
        """End now: what still runs counts as interrupted, and other workers may take everything at once."""
        self._ended.set()
        if self.id is not None:
            leases.retire(self.id)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end; whether it has come."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    def report(self) -> Report:
        """What it has in hand, and what it has done since it registered."""
        engine = self.engine
        if engine is None:
            return Report()
        return Report(
            runs=len(engine.holdings.owned),
            jobs=len(engine.holdings.jobs),
            events=engine.flushed,
            activities=engine.results.count,
        )

    def title(self) -> str:
        """What its line on a terminal begins with."""
        return ""

    # The engine's thread

    def _run(self) -> None:
        database.own_connection()
        try:
            with status_cache.deferring(self._statuses.put):
                while not self._ended.is_set():
                    self._live_once()
        except Stopped:
            logger.warning("Stopped while the database did not answer; other workers take over when the lease ends.")
        except BaseException:
            logger.critical("The engine has failed; this worker ends.", exc_info=True)
            self.exit_code = 1
            raise
        finally:
            self._finish()

    def _live_once(self) -> None:
        """From a registration to the end of the worker, or to its declared death."""
        if not self._register():
            self._ended.set()
            return
        assert self.engine is not None
        try:
            self._serve(self.engine)
            self._retire()
            self._ended.set()
        except leases.WorkerFenced:
            logger.warning("Worker %s was declared dead; it drops everything and registers anew.", self.id)
            instrumentation.send(instrumentation.worker_fenced, worker=self.id)
            self.engine.abandon()
            outages.discard()

    def _register(self) -> bool:
        """Get an id. False: told to stop before the database answered, or there is nothing to wait for."""
        while not self._is_forced() and not self._stopping.is_set():
            try:
                self.id = leases.register(
                    identifiers.process_name(),
                    queues=self.queues,
                    definitions=sorted(self._serving.definitions),
                    concurrency=self._slots.thread_capacity(),
                    release=VERSION,
                )
                break
            except (DatabaseError, InterfaceError) as error:
                if self._burst and leases.has_no_table():
                    logger.error("%s. A worker with --burst does not wait for that: it ends.", NO_TABLES)
                    self.exit_code = 1
                    return False
                self._show_progress()
                logger.warning(
                    "This worker cannot register yet, and tries again: %s. "
                    "Does the database answer, and are the migrations applied (manage.py migrate)?",
                    str(error).strip(),
                )
                outages.discard()
                self._stopping.wait(1.0)
        if self.id is None:
            return False
        self.engine = self._new_engine(self.id)
        self._listen(self.id)
        self._maintenance.ask()  # what other code has blocked is offered to this one's
        instrumentation.send(instrumentation.worker_started, worker=self.id, queues=self.queues)
        return True

    def _new_engine(self, worker: int) -> Engine:
        self._cache.clear()
        return Engine(
            worker,
            slots=self._slots,
            watchdog=self._watchdog,
            cache=self._cache,
            serving=self._serving,
            pace=Pace(self._longest_poll),
            linger=lambda: conf.current().LINGER_SECONDS,
            on_tick=self._maintenance.ask,
            on_ending=self._maintenance.end,
            on_parent_closed=self._maintenance.close_children_of,
            on_progress=self._show_progress,
            threaded=True,
            stopped=self._is_forced,
            finished=self._finished,
        )

    def _serve(self, engine: Engine) -> None:
        next_audit = time.monotonic() + AUDIT_SECONDS
        patience = Patience(engine.gives_up)
        while not self._is_forced():
            try:
                if self._stopping.is_set() and not engine.draining:
                    leases.announce_stopping(engine.worker)
                    engine.drain()
                if self._should_audit(engine, next_audit):
                    engine.auditor.audit()
                    next_audit = time.monotonic() + AUDIT_SECONDS
                engine.cycle()
                patience.renew()
                if self._is_done(engine):
                    return
            except (DatabaseError, InterfaceError) as error:
                self._survive(engine, error, patience)
                next_audit = 0.0

    def _should_audit(self, engine: Engine, next_audit: float) -> bool:
        if time.monotonic() >= next_audit or engine.auditor.is_wanted:
            return True
        return self._heartbeat.declared_dead == engine.worker

    def _survive(self, engine: Engine, error: Exception, patience: Patience) -> None:
        """The database failed outside a flush: keep everything, reconnect, then compare notes."""
        conflict = outages.is_conflict(error)
        logger.log(logging.DEBUG if conflict else logging.WARNING, "The engine meets a database error: %s", error)
        if not conflict and not outages.is_outage(error):
            raise error
        outages.discard()
        outages.wait_until_usable(engine.gives_up)
        if not conflict:
            patience.rest()

    def _is_done(self, engine: Engine) -> bool:
        if self._slots.lost * 2 > self._slots.thread_capacity() and not self._stopping.is_set():
            logger.error("Half of the slots are lost to activities that ran out of time; this worker drains and ends.")
            self.exit_code = EXIT_LOST_SLOTS
            self.stop()
        if engine.draining:
            return engine.is_idle() or time.monotonic() > self._drain_until
        return self._burst and self._has_nothing_due(engine)

    def _has_nothing_due(self, engine: Engine) -> bool:
        """Whether the last look found nothing, after the last sweep, and nobody has told of more since."""
        if not (engine.is_idle() and self._maintenance.is_at_rest):
            return False
        if not engine.taking.looked_empty_handed:
            engine.wake()  # the look that can tell is not worth a pause
            return False
        has_none = engine.taking.found_nothing or (engine.taking.found_no_place and not self._waits_for_places)
        if engine.taking.is_due() or not has_none:
            return False
        return not (self._waits_for_dead and leases.anybody_expired(by=engine.worker))

    def _retire(self) -> None:
        """The last word: nothing is left under this id, or what is left may be taken at once."""
        if self.engine is not None:
            self.engine.abandon()
        if self.id is not None:
            try:
                leases.retire(self.id)
            except (DatabaseError, InterfaceError) as error:
                logger.warning("This worker could not say that it ends, so that its lease has to run out: %s", error)
                outages.discard()
            instrumentation.send(
                instrumentation.worker_stopped, worker=self.id, seconds=time.monotonic() - self._started_at
            )

    def _show_progress(self) -> None:
        if self._sign is not None:
            self._sign.renew()

    def _finish(self) -> None:
        self._ended.set()
        if self._sign is not None:
            self._sign.remove()
        self._heartbeat.stop()
        self._maintenance.stop()
        self._statuses.stop()
        self._slots.close()
        for listener in self._listeners:
            listener.close()
        outages.discard()

    def _is_forced(self) -> bool:
        return self._ended.is_set()

    # What other threads call

    def _report(self, finished: Finished) -> None:
        if self.engine is not None:
            self.engine.report(finished)

    def wake(self) -> None:
        """There may be something new: look now."""
        if self.engine is not None:
            self.engine.wake()

    def _progress(self) -> int:
        return self.engine.progress if self.engine is not None else 0

    def _ask_for_sweep(self) -> None:
        self._maintenance.ask()

    def _longest_poll(self) -> float:
        """Seconds between two looks of an idle worker."""
        chosen = conf.current().POLL_SECONDS
        if chosen is not None:
            return chosen
        return LISTENING_POLL if any(listener.hears for listener in self._listeners) else SILENT_POLL

    def _listen(self, worker: int) -> None:
        for listener in self._listeners:
            listener.close()
        heard = (*self.queues, transports.SCHEDULES)
        self._listeners = [one.listen(heard, worker, self.wake) for one in transports.all() if self._listens]

    # The watchdog's thread

    def _watch(self) -> None:
        told: UUID | None = None
        while not self._ended.wait(WATCH_SECONDS):
            stuck = self._watchdog.check()
            if stuck is None:
                told = None
                continue
            run, seconds = stuck
            if told != run.claimed.run_id:
                told = run.claimed.run_id
                self._tell_stuck(run, seconds)
            if self._may_exit and seconds > conf.current().LEASE_SECONDS * GIVE_UP_SHARE:
                self._give_up(run.claimed.run_id)

    def _tell_stuck(self, run: OwnedRun, seconds: float) -> None:
        workflow_id, run_id, name = run.workflow_id, run.claimed.run_id, run.definition.name
        where = self._watchdog.where
        logger.error(
            "Workflow %s (%s, run %s) keeps the engine busy for %.1f s at %s without awaiting anything; it is stopped.",
            name, workflow_id, run_id, seconds, where or "an unknown place",
            extra=reporting.fields_of_run(run),
        )  # fmt: skip
        instrumentation.send(
            instrumentation.workflow_stuck,
            workflow_id=workflow_id,
            run_id=run_id,
            name=name,
            seconds=seconds,
            where=where,
        )

    def _give_up(self, run_id: UUID) -> None:
        """The code cannot be stopped: name it, so that recovery parks it, and hand everything else over by dying."""
        logger.critical("Run %s cannot be stopped; this worker ends.", run_id)
        if self.id is not None:
            leases.retire(self.id, stuck_run=run_id, stuck_where=self._watchdog.where)
        logging.shutdown()
        os._exit(EXIT_STUCK)
