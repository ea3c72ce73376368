"""``make serve``: the shop, its admin and a worker, until Ctrl-C. Shows what ``make demo`` left, if it ran before."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time

from example_project import processes
from example_project.processes import ProcessSet

USER = "demo"
PORT = 8000


def main() -> int:
    password = secrets.token_urlsafe(9)
    environment = {"PYTHONUNBUFFERED": "1"}
    try:
        with ProcessSet(environment=environment) as running:
            running.run("migrate", "--verbosity", "0")
            running.run("demo_user", USER, DEMO_PASSWORD=password)
            port = processes.free_port(int(os.environ.get("PORT") or PORT))
            needed = [
                running.start("runserver", "--noreload", f"127.0.0.1:{port}"),
                running.start("durable_worker"),
            ]
            welcome(f"http://127.0.0.1:{port}", password)
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    time.sleep(1)
                    for process in needed:
                        process.check()
    except processes.ProcessEnded as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def welcome(address: str, password: str) -> None:
    print(
        f"\n  Shop    {address}/\n"
        f"  Admin   {address}/admin/   user {USER}, password {password}\n\n"
        "  Ctrl-C stops the server and the worker.\n",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
