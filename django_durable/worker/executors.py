"""Where activities run: threads for ``def``, one event loop for ``async def``. Processes have their own module."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from django_durable.definitions import activity
from django_durable.definitions.activity import ASYNC, EXECUTORS, PROCESS, THREAD
from django_durable.store import outages
from django_durable.worker import attempts
from django_durable.worker.jobs import Finished, Job

HELP_SECONDS = 0.001  # between two looks at jobs that wait although threads are awake
QUICK_JOBS = 4  # taken within that time: more threads would not help
STALE_SECONDS = 5.0  # without a job, after which a thread asks its connections whether they still live; or a loss
IDLE_SECONDS = 60.0  # after which a thread without work closes its database connections

Done = Callable[[Finished], None]


class Executor(Protocol):
    """Runs jobs and reports each exactly once. A job is only given to it while a slot is free: it queues nothing."""

    capacity: int

    def submit(self, job: Job) -> None:
        """Begin ``job`` now."""

    def give_up(self, job: Job) -> None:
        """Nobody waits for ``job`` any more: stop it where that is possible. It is still reported when it ends."""

    def announce_stop(self, job: Job) -> None:
        """``job.stopping`` is set now: let the activity see it."""

    def close(self) -> None:
        """Take no more jobs. Threads end once their job has ended."""


class Runner(Protocol):
    """What each thread of a ``ThreadExecutor`` does with its jobs."""

    def begin(self) -> None:
        """This thread is new."""

    def refresh(self) -> None:
        """It has had nothing to do for a moment."""

    def execute(self, job: Job) -> Finished: ...

    def rest(self) -> None:
        """It has nothing to do for a while, or ends."""


class Here:
    """Jobs are executed in the thread itself."""

    def begin(self) -> None:
        attempts.watch_connections()

    def refresh(self) -> None:
        attempts.refresh_connections()

    def execute(self, job: Job) -> Finished:
        return attempts.execute(job)

    def rest(self) -> None:
        attempts.close_connections()


class ThreadExecutor:
    """Up to ``capacity`` threads, started as they are needed and kept.

    Waking a thread costs more than a short activity does, so threads are woken one at a time: one thread takes job
    after job, and only while jobs wait for longer than a millisecond more threads join, each time twice as many.
    """

    def __init__(
        self, capacity: int, done: Done, *, runner: Runner | None = None, name: str = "durable-activity"
    ) -> None:
        self.capacity = capacity
        self._name = name
        self._done = done
        self._runner = runner or Here()
        self._jobs: deque[Job] = deque()
        self._lock = threading.Lock()
        self._threads = 0
        self._asleep = 0
        self._seeking = 0  # threads that are awake, in no job, and will look for one before they sleep
        self._taken = 0
        self._closed = False
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()  # each wakes one sleeping thread
        self._waiting = threading.Event()
        self._helper: threading.Thread | None = None

    def submit(self, job: Job) -> None:
        self._jobs.append(job)
        with self._lock:
            if self._seeking == 0:
                self._wake_one()
        if not self._waiting.is_set():
            if self._helper is None:
                self._helper = threading.Thread(target=self._help, name=f"{self._name}-helper", daemon=True)
                self._helper.start()
            self._waiting.set()

    def give_up(self, job: Job) -> None:
        job.given_up = True

    def announce_stop(self, job: Job) -> None:
        """It looks at the job itself."""

    def close(self) -> None:
        self._closed = True
        self._waiting.set()
        for _ in range(self._threads):
            self._tokens.put(None)

    def _wake_one(self) -> bool:
        """Make one more thread look for jobs; the lock is held. False: all are awake."""
        if self._asleep:
            self._asleep -= 1
            self._tokens.put(None)
        elif self._threads < self.capacity:
            self._threads += 1
            name = f"{self._name}-{self._threads}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
        else:
            return False
        self._seeking += 1
        return True

    def _work(self) -> None:
        self._runner.begin()
        rested, losses = time.monotonic(), outages.losses()
        while not self._closed:
            job = self._next()
            if job is not None:
                if time.monotonic() - rested > STALE_SECONDS or outages.losses() != losses:
                    losses = outages.losses()
                    self._runner.refresh()
                finished = self._runner.execute(job)
                with self._lock:
                    self._seeking += 1
                self._done(finished)
                rested = time.monotonic()
            elif not self._sleep():
                break
        self._runner.rest()

    def _next(self) -> Job | None:
        """Take a job, or go to sleep: afterwards the thread seeks no more."""
        with self._lock:
            self._seeking -= 1
            if self._jobs:
                self._taken += 1
                return self._jobs.popleft()
            self._asleep += 1
            return None

    def _sleep(self) -> bool:
        """Wait to be woken; connections that are not used for a while are closed. False: the executor is closed."""
        try:
            self._tokens.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            self._runner.rest()
            self._tokens.get()
        return not self._closed

    def _help(self) -> None:
        """While jobs wait and the threads that are awake make no good progress, wake more."""
        while not self._closed:
            self._waiting.wait()
            more, taken = 1, self._taken
            while self._jobs and not self._closed:
                time.sleep(HELP_SECONDS)
                quick, taken = self._taken - taken >= QUICK_JOBS, self._taken
                more = 1 if quick else self._wake(more) * 2
            self._waiting.clear()
            if self._jobs:
                self._waiting.set()

    def _wake(self, number: int) -> int:
        with self._lock:
            for _ in range(min(number, len(self._jobs))):
                if not self._wake_one():
                    break
        return number


class AsyncExecutor:
    """One thread with an event loop, started at the first job."""

    def __init__(self, capacity: int, done: Done) -> None:
        self.capacity = capacity
        self._done = done
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: dict[Job, asyncio.Task[Finished]] = {}

    def submit(self, job: Job) -> None:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._work, args=(self._loop,), name="durable-activity-loop", daemon=True).start()
        self._loop.call_soon_threadsafe(self._begin, job)

    def give_up(self, job: Job) -> None:
        job.given_up = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._cancel, job)

    def announce_stop(self, job: Job) -> None:
        """It looks at the job itself."""

    def close(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_forever()
        finally:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    def _begin(self, job: Job) -> None:
        assert self._loop is not None
        task = self._loop.create_task(attempts.execute_async(job), name=f"durable {job.definition.name}")
        self._running[job] = task
        task.add_done_callback(partial(self._end, job))

    def _cancel(self, job: Job) -> None:
        task = self._running.get(job)
        if task is not None:
            task.cancel()

    def _end(self, job: Job, task: asyncio.Task[Finished]) -> None:
        """Every task is reported, also one that was given up before its first step."""
        del self._running[job]
        self._done(Finished(job=job, lost=True) if task.cancelled() else task.result())


class Slots:
    """Which executor an activity needs, and how many slots are taken there."""

    def __init__(self, *, threads: Executor, loop: Executor, processes: Executor) -> None:
        self._executors: dict[activity.Executor, Executor] = {THREAD: threads, ASYNC: loop, PROCESS: processes}
        self._taken: dict[activity.Executor, int] = dict.fromkeys(EXECUTORS, 0)
        self.lost = 0

    def free(self, *, kind: activity.Executor = THREAD) -> int:
        return self._executors[kind].capacity - self._taken[kind]

    def take(self, *, kind: activity.Executor, share: float = 1.0) -> bool:
        """Reserve a slot if one is free within ``share`` of all. False: none is."""
        if self._taken[kind] >= int(self._executors[kind].capacity * share):
            return False
        self._taken[kind] += 1
        return True

    def give_back(self, *, kind: activity.Executor) -> None:
        self._taken[kind] -= 1

    def start(self, job: Job) -> None:
        self._executors[job.definition.executor].submit(job)

    def give_up(self, job: Job) -> None:
        self._executors[job.definition.executor].give_up(job)

    def announce_stop(self, job: Job) -> None:
        """The worker drains: the activity may want to know."""
        job.stopping = True
        self._executors[job.definition.executor].announce_stop(job)

    def taken(self) -> int:
        return sum(self._taken.values())

    def capacity(self) -> int:
        return sum(executor.capacity for executor in self._executors.values())

    def thread_capacity(self) -> int:
        return self._executors[THREAD].capacity

    def close(self) -> None:
        for executor in set(self._executors.values()):
            executor.close()
