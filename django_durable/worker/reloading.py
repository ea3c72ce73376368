"""A worker that begins anew when its code changes, for development: Django's autoreloader around it.

The worker runs in a process of its own, beside the thread that watches the files. At a change it hands back what it
has and ends with the exit code that Django's reloader gives; this process then starts the next one.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from django.utils import autoreload

from django_durable.worker import interpreters
from django_durable.worker.worker import Worker

CHANGED = 3  # exit code of a process whose files have changed: what Django's reloader gives
PATIENCE = 2.0  # seconds that activities have to end in before they are handed back as interrupted
LOOK_SECONDS = 0.5

_exiting = threading.Event()


def is_inside() -> bool:
    """Whether this is the process that works, and watches its files."""
    return os.environ.get(autoreload.DJANGO_AUTORELOAD_ENV) == "true"


def run_inside(main: Callable[[], None]) -> None:
    """Run ``main`` in a thread. The process ends with it, when a loaded file has changed, and with its parent."""
    threading.Thread(target=_follow, args=[os.getppid()], name="durable-parent", daemon=True).start()

    def run() -> None:  # the main thread watches the files, and would go on with that
        code = 1
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        if not _exiting.is_set():
            sys.stderr.flush()
            os._exit(code)

    autoreload.run_with_reloader(run)


def _follow(parent: int) -> None:
    """End in order once the process that has started this one is gone."""
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def hand_over_at_exit(worker: Worker) -> None:
    """Whatever ends this process: give everything back at once, not when the lease has expired."""

    def hand_over() -> None:
        _exiting.set()  # with the exit code that the process has already, whatever the worker's end gives
        if not worker.has_ended:
            worker.stop()
            if not worker.join(PATIENCE):
                worker.force_stop()

    atexit.register(hand_over)


class Reloader:
    """Starts one process after the other. The first signal ends the last of them in order, the second at once."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self._signals = 0
        self._on_terminal = sys.stdin is not None and sys.stdin.isatty()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Until a process ends for another reason than a change; its exit code."""
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            return self._run()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _run(self) -> int:
        while True:
            files = _files()
            code = self._run_once()
            if self._signals or code == 0:
                return max(code, 0)
            if code != CHANGED:
                sys.stderr.write("The worker has failed; it starts again when a file has changed.\n")
                if not self._wait_for_change(files):
                    return code if code > 0 else 1

    def _run_once(self) -> int:
        # On a terminal both are in its group, so that a debugger can read; Ctrl+C then reaches both of them.
        own_group = os.name == "posix" and not self._on_terminal
        self._process = interpreters.start(
            "durable_worker",
            *self._arguments,
            environment={autoreload.DJANGO_AUTORELOAD_ENV: "true"},
            **({"process_group": 0} if own_group else {}),
        )
        if self._signals:  # that came just before
            self._process.terminate()
        return self._process.wait()

    def _wait_for_change(self, files: dict[Any, float]) -> bool:
        """Whether there was one before a signal."""
        while not self._signals:
            if _files() != files:
                return True
            time.sleep(LOOK_SECONDS)
        return False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._process is None or self._process.poll() is not None:
            return
        if self._signals > 1:
            self._process.kill()
        elif number != signal.SIGINT or not self._on_terminal:
            self._process.terminate()


def _files() -> dict[Any, float]:
    """When the files were changed that this process has loaded: the code that the next one will load, if it can."""
    return dict(autoreload.StatReloader().snapshot_files())
