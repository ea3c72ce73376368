"""Where activities run: threads for ``def``, one event loop for ``async def``. One small interface for both."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Protocol

from django_durable.worker import attempts
from django_durable.worker.jobs import Finished, Job

IDLE_SECONDS = 60.0  # after which a thread without work closes its database connections

Done = Callable[[Finished], None]


class Executor(Protocol):
    """Runs jobs and reports each exactly once. A job is only given to it while a slot is free: it queues nothing."""

    capacity: int

    def submit(self, job: Job) -> None:
        """Begin ``job`` now."""

    def give_up(self, job: Job) -> None:
        """Nobody waits for ``job`` any more: stop it where that is possible. It is still reported when it ends."""

    def close(self) -> None:
        """Take no more jobs. Threads end once their job has ended."""


class ThreadExecutor:
    """Up to ``capacity`` threads, started as they are needed and kept."""

    def __init__(self, capacity: int, done: Done) -> None:
        self.capacity = capacity
        self._done = done
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0
        self._lock = threading.Lock()

    def submit(self, job: Job) -> None:
        with self._lock:
            self._unfinished += 1
            if self._unfinished > len(self._threads):
                self._start_thread()
        self._jobs.put(job)

    def give_up(self, job: Job) -> None:
        job.given_up.set()

    def close(self) -> None:
        for _ in self._threads:
            self._jobs.put(None)

    def _start_thread(self) -> None:
        name = f"durable-activity-{len(self._threads) + 1}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                attempts.close_connections()
                continue
            if job is None:
                attempts.close_connections()
                return
            finished = attempts.execute(job)
            with self._lock:
                self._unfinished -= 1
            self._done(finished)


class AsyncExecutor:
    """One thread with an event loop, started at the first job."""

    def __init__(self, capacity: int, done: Done) -> None:
        self.capacity = capacity
        self._done = done
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: dict[Job, asyncio.Task[None]] = {}

    def submit(self, job: Job) -> None:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="durable-activity-loop", daemon=True).start()
        self._loop.call_soon_threadsafe(self._begin, job)

    def give_up(self, job: Job) -> None:
        job.given_up.set()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._cancel, job)

    def close(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _begin(self, job: Job) -> None:
        assert self._loop is not None
        self._running[job] = self._loop.create_task(self._run(job), name=f"durable {job.definition.name}")

    def _cancel(self, job: Job) -> None:
        task = self._running.get(job)
        if task is not None:
            task.cancel()

    async def _run(self, job: Job) -> None:
        try:
            finished = await attempts.execute_async(job)
        finally:
            del self._running[job]
        self._done(finished)


class Slots:
    """Which executor an activity needs, and how many slots are taken there."""

    def __init__(self, threads: Executor, loop: Executor) -> None:
        self._executors = {False: threads, True: loop}
        self._taken = {False: 0, True: 0}
        self.lost = 0

    def free(self, *, is_async: bool = False) -> int:
        return self._executors[is_async].capacity - self._taken[is_async]

    def take(self, *, is_async: bool, share: float = 1.0) -> bool:
        """Reserve a slot if one is free within ``share`` of all. False: none is."""
        if self._taken[is_async] >= int(self._executors[is_async].capacity * share):
            return False
        self._taken[is_async] += 1
        return True

    def give_back(self, *, is_async: bool) -> None:
        self._taken[is_async] -= 1

    def start(self, job: Job) -> None:
        self._executors[job.definition.is_async].submit(job)

    def give_up(self, job: Job) -> None:
        self._executors[job.definition.is_async].give_up(job)

    def taken(self) -> int:
        return sum(self._taken.values())

    def capacity(self) -> int:
        return sum(executor.capacity for executor in self._executors.values())

    def thread_capacity(self) -> int:
        return self._executors[False].capacity

    def close(self) -> None:
        for executor in self._executors.values():
            executor.close()
