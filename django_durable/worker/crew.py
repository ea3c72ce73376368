"""Several worker processes under one: ``durable_worker --processes N``, for machines with more than one core.

Each is a worker like any other, in an interpreter of its own, with its own row and lease. This process only starts
them, passes on what it is told, and starts a new one where one has died. It uses no database.
"""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence

from django_durable.worker import interpreters, member, wire
from django_durable.worker.wire import Report

logger = logging.getLogger("django_durable.worker")

LOOK_SECONDS = 0.1
FIRST_PAUSE = 1.0  # seconds before a worker that has died is replaced; doubled while its successors die young
LONGEST_PAUSE = 30.0
OLD_AGE = 60.0  # seconds after which a death says nothing about the next life
HOPELESS = 3  # deaths in one place, if no worker of the crew has ever come up
LAST_WORDS = 5.0  # seconds to end in, once forced
SHARED_METRICS = "PROMETHEUS_MULTIPROC_DIR"


class Process:
    """One worker process, as the crew sees it."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self.started_at = time.monotonic()
        self.report: Report | None = None
        self._process = interpreters.start(
            "durable_worker", *arguments, environment=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._pipe = wire.Pipe(self._process.stdout, self._process.stdin)
        self._listener = threading.Thread(target=self._listen, name="durable-crew", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, order: wire.Drain | wire.Force) -> None:
        try:
            self._pipe.send(order)
        except OSError:
            pass  # it has ended, which the crew is about to notice

    def exit_code(self) -> int | None:
        """None while it runs."""
        code = self._process.poll()
        if code is not None:
            self._listener.join(LAST_WORDS)
            self._pipe.close()
        return code

    def end(self) -> None:
        """Wait for its last words, then leave nothing of it."""
        try:
            self._process.wait(LAST_WORDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listen(self) -> None:
        try:
            while isinstance(message := self._pipe.receive(), Report):
                self.report = message
        except (OSError, ValueError):
            pass  # the pipe was closed here


class Seat:
    """A place in the crew: a process, or the moment at which it gets a new one, or neither any more."""

    def __init__(self) -> None:
        self.process: Process | None = None
        self.again_at: float | None = 0.0
        self.deaths = 0  # in a row, each at a young age

    @property
    def is_done(self) -> bool:
        return self.process is None and self.again_at is None

    def pause(self) -> float:
        pause: float = FIRST_PAUSE * 2 ** min(self.deaths - 1, 10)
        return min(pause, LONGEST_PAUSE)


class Crew:
    """Starts ``size`` workers with these arguments, and keeps as many alive. Used like a ``Worker``."""

    def __init__(self, size: int, arguments: Sequence[str], *, metrics: bool = False) -> None:
        """``metrics``: they serve metrics, all on one address."""
        self.exit_code = 0
        self.restarts = 0
        self._arguments = arguments
        self._environment = {member.VARIABLE: "true"}
        self._seats = [Seat() for _ in range(size)]
        self._stopping = False
        self._came_up = False
        self._ended = Report()  # what those have done that are gone
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        if metrics and SHARED_METRICS not in os.environ:
            self._directory = tempfile.TemporaryDirectory(prefix="durable-metrics-")
            self._environment[SHARED_METRICS] = self._directory.name

    # Life

    def start(self) -> None:
        """Start them all."""
        self._look()

    def stop(self) -> None:
        """Let them all drain, and start no new ones."""
        self._stopping = True
        self._tell(wire.Drain())

    def force_stop(self) -> None:
        """End them all now."""
        self._stopping = True
        self._tell(wire.Force())
        for process in self._processes():
            process.end()
        self._clean_up()

    def join(self, timeout: float) -> bool:
        """Look after them for so long; whether all have ended."""
        until = time.monotonic() + timeout
        while not self._look():
            if time.monotonic() >= until:
                return False
            time.sleep(LOOK_SECONDS)
        self._clean_up()
        return True

    def _look(self) -> bool:
        self._came_up = self._came_up or any(process.report for process in self._processes())
        for seat in self._seats:
            if seat.process is not None and (code := seat.process.exit_code()) is not None:
                self._bury(seat, seat.process, code)
            if seat.process is None and seat.again_at is not None:
                if self._stopping:
                    seat.again_at = None
                elif seat.again_at <= time.monotonic():
                    seat.process, seat.again_at = Process(self._arguments, self._environment), None
        return all(seat.is_done for seat in self._seats)

    def _bury(self, seat: Seat, process: Process, code: int) -> None:
        """What the end of a process means. One that was not asked to end, and has failed, is replaced."""
        seat.process = None
        self._ended = _sum(self._ended, process.report or Report(), in_hand=False)
        if code == 0:
            return
        if self._stopping:
            self.exit_code = self.exit_code or (code if code > 0 else 1)
            return
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        seat.deaths = seat.deaths + 1 if time.monotonic() - process.started_at < OLD_AGE else 1
        if seat.deaths >= HOPELESS and not self._came_up:
            logger.critical("Worker process %s %s, as the others before it: giving up.", process.pid, how)
            self.exit_code = code if code > 0 else 1
            self.stop()
            return
        self.restarts += 1
        logger.error("Worker process %s %s; another one starts in %.0f s.", process.pid, how, seat.pause())
        seat.again_at = time.monotonic() + seat.pause()

    def _tell(self, order: wire.Drain | wire.Force) -> None:
        for process in self._processes():
            process.tell(order)

    def _processes(self) -> list[Process]:
        return [seat.process for seat in self._seats if seat.process is not None]

    def _clean_up(self) -> None:
        if self._directory is not None:
            self._directory.cleanup()

    # What people see of it

    def report(self) -> Report:
        """What all of them have in hand, and what they and those before them have done."""
        total = self._ended
        for process in self._processes():
            total = _sum(total, process.report or Report())
        return total

    def title(self) -> str:
        restarts = f", {self.restarts} restarted" if self.restarts else ""
        return f"{len(self._processes())} processes{restarts}: "


def _sum(total: Report, one: Report, *, in_hand: bool = True) -> Report:
    return Report(
        runs=total.runs + one.runs * in_hand,
        jobs=total.jobs + one.jobs * in_hand,
        events=total.events + one.events,
        activities=total.activities + one.activities,
    )
