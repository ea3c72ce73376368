"""Calls that cannot be replayed, by what they are: and what to do instead."""

from __future__ import annotations

from typing import NamedTuple


class Rule(NamedTuple):
    """``id`` of the warning, what the code does, and the right way."""

    id: str
    does: str
    hint: str


_ACTIVITY = "Do it in an activity, and await ctx.activity(...)."

CLOCK = Rule("durable.W101", "reads the clock", "Use ctx.now(), which is the same in every replay.")
RANDOM = Rule("durable.W102", "draws random numbers", "Use ctx.random; for secrets an activity.")
UUID = Rule("durable.W103", "makes a random id", "Use ctx.uuid4(), which is the same in every replay.")
SLEEP = Rule("durable.W104", "blocks the worker", "Use await ctx.sleep(...) or asyncio.sleep(...): durable timers.")
ORM = Rule("durable.W105", "uses the database", f"{_ACTIVITY} Activities may use the ORM.")
NETWORK = Rule("durable.W106", "uses the network", _ACTIVITY)
FILES = Rule("durable.W107", "uses files", _ACTIVITY)
THREADS = Rule(
    "durable.W108", "uses threads or processes", f"{_ACTIVITY} For several at once: asyncio.gather() or ctx.map()."
)
ENVIRONMENT = Rule(
    "durable.W109",
    "reads the environment",
    "Pass it as an argument, or use ctx.side_effect(...), which keeps it.",
)

_PROCESSES = ("asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell")

EXACT: dict[str, Rule] = {
    **dict.fromkeys(
        (
            *("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today"),
            *("time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter"),
            *("time.perf_counter_ns", "time.process_time", "time.localtime", "time.gmtime", "time.ctime"),
            *("django.utils.timezone.now", "django.utils.timezone.localdate"),
        ),
        CLOCK,
    ),
    **dict.fromkeys(("os.urandom", "posix.urandom", "nt.urandom"), RANDOM),
    **dict.fromkeys(("uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7"), UUID),
    "time.sleep": SLEEP,
    **dict.fromkeys(("builtins.open", "io.open", "_io.open", "os.open"), FILES),
    **dict.fromkeys(
        (
            *(f"os.{name}" for name in ("listdir", "makedirs", "mkdir", "remove", "rename", "replace", "rmdir")),
            *(f"os.{name}" for name in ("scandir", "stat", "unlink", "walk")),
            *(f"os.path.{name}" for name in ("exists", "getmtime", "getsize", "isdir", "isfile")),
            *(f"genericpath.{name}" for name in ("exists", "getmtime", "getsize", "isdir", "isfile")),
        ),
        FILES,
    ),
    **dict.fromkeys(("os.system", "os.popen", "os.fork", "asyncio.to_thread", *_PROCESSES), THREADS),
    "os.getenv": ENVIRONMENT,
    **dict.fromkeys(
        ("asyncio.open_connection", "asyncio.start_server", "asyncio.streams.open_connection", "django.core.mail"),
        NETWORK,
    ),
}

PREFIXES: dict[str, Rule] = {
    **dict.fromkeys(("random", "secrets", "numpy.random"), RANDOM),
    **dict.fromkeys(
        ("django.db.transaction", "django.db.connection", "django.db.connections", "django.db.backends"), ORM
    ),
    **dict.fromkeys(("django.utils.connection", "django.shortcuts"), ORM),
    **dict.fromkeys(
        (
            *(
                "aiohttp",
                "boto3",
                "botocore",
                "ftplib",
                "http.client",
                "httpx",
                "imaplib",
                "paramiko",
                "poplib",
                "redis",
            ),
            *("requests", "smtplib", "socket", "_socket", "ssl", "urllib.request", "urllib3", "django.core.mail"),
        ),
        NETWORK,
    ),
    **dict.fromkeys(("shutil", "tempfile"), FILES),
    **dict.fromkeys(
        (
            *("_thread", "asgiref.sync", "asyncio.subprocess", "asyncio.threads", "concurrent.futures"),
            *("multiprocessing", "subprocess", "threading"),
        ),
        THREADS,
    ),
}
"""A path belongs to one of these if it is one, or goes on after a dot."""

METHODS: dict[str, Rule] = {
    **dict.fromkeys(("save", "asave", "refresh_from_db", "arefresh_from_db", "bulk_create", "abulk_create"), ORM),
    **dict.fromkeys(("read_text", "write_text", "read_bytes", "write_bytes"), FILES),
    "run_in_executor": THREADS,
}
"""Methods that give themselves away, whatever they are called on."""

PURE = frozenset({"random.Random", "socket.AddressFamily", "django.shortcuts.resolve_url"})


def of_path(path: str) -> Rule | None:
    """The rule that a call of ``path`` breaks."""
    if path in PURE:
        return None
    found = EXACT.get(path)
    while found is None and path:
        found = PREFIXES.get(path)
        path = path.rpartition(".")[0]
    return found
