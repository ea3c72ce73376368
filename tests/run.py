"""``make test``: every check, then every test on each database that answers, then what came of it.

``DURABLE_TEST_POSTGRES_URL`` names the PostgreSQL server (default: the standard local port).
``DURABLE_TEST_MARIADB_URL`` names a MariaDB server (default: none).
``DURABLE_TEST_ON=sqlite,mariadb`` leaves the others of the three out.
``DURABLE_TEST_REQUIRE=postgres`` makes its absence a failure, ``redis`` that of ``redis-server``; commas between them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg

from example_project import database

BASE_DIR = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
POSTGRES_URL = os.environ.get("DURABLE_TEST_POSTGRES_URL") or "postgres://postgres@127.0.0.1:5432/test"
MARIADB_URL = os.environ.get("DURABLE_TEST_MARIADB_URL", "")
ON = (os.environ.get("DURABLE_TEST_ON") or "sqlite,postgres,mariadb").split(",")
REQUIRED = os.environ.get("DURABLE_TEST_REQUIRE", "").split(",")

PARALLEL = ("-n", "4", "--dist", "worksteal")
"""Each process has a database of its own. More processes than cores: tests mostly wait for workers."""

WITHOUT_DATABASE = (
    *("tests/unit", "tests/replay", "tests/typing"),
    *("tests/docs/test_pages.py", "tests/docs/test_reference.py"),
)
"""What would say the same on a second database."""

ON_ANOTHER = [f"--ignore={path}" for path in WITHOUT_DATABASE]

PASSED, FAILED = "passed", "FAILED"


def main(arguments: list[str]) -> int:
    """``--lint``: the checks alone; ``--tests``: none of them. Whatever else there is goes to pytest."""
    results = {} if "--tests" in arguments else run_checks()
    if "--lint" not in arguments:
        results |= run_tests(pytest_arguments=[one for one in arguments if one != "--tests"])
    print("\nIn short:")
    for name, result in results.items():
        print(f"  {name:<24}{result}")
    return int(any(result.startswith(FAILED) for result in results.values()))


def run_checks() -> dict[str, str]:
    with tempfile.TemporaryDirectory() as directory:
        nowhere = database.sqlite_url(Path(directory) / "empty.sqlite3")
        return {
            "ruff check": command(str(BIN / "ruff"), "check", "."),
            "ruff format": command(str(BIN / "ruff"), "format", "--check", "."),
            "mypy": command(str(BIN / "mypy")),
            "import layers": command(str(BIN / "lint-imports")),
            "missing migrations": command(
                sys.executable, "manage.py", "makemigrations", "--check", "--dry-run", EXAMPLE_DATABASE_URL=nowhere
            ),
        }


def run_tests(*, pytest_arguments: list[str]) -> dict[str, str]:
    """Run the same suite on each database, but once what needs none."""
    results: dict[str, str] = {}
    if "sqlite" in ON:
        results["tests on SQLite"] = pytest("", pytest_arguments)
    if "postgres" in ON:
        results["tests on PostgreSQL"] = on_postgres(pytest_arguments)
    if "mariadb" in ON and MARIADB_URL:
        results["tests on MariaDB"] = pytest(MARIADB_URL, pytest_arguments or ON_ANOTHER)
    elif "mariadb" in REQUIRED:
        results["tests on MariaDB"] = f"{FAILED}: required, but DURABLE_TEST_MARIADB_URL names no server"
    return results


def on_postgres(pytest_arguments: list[str]) -> str:
    problem = postgres_problem()
    if problem is None:
        return pytest(POSTGRES_URL, pytest_arguments or ON_ANOTHER)
    return f"{FAILED}: required, but {problem}" if "postgres" in REQUIRED else f"not run: {problem}"


def pytest(url: str, arguments: list[str]) -> str:
    suffix = os.environ.get("DURABLE_TEST_SUFFIX") or f"_{os.getpid()}"
    return command(
        sys.executable,
        "-m",
        "pytest",
        *PARALLEL,
        *arguments,
        DURABLE_TEST_DATABASE_URL=url,
        DURABLE_TEST_SUFFIX=suffix,
    )


def postgres_problem() -> str | None:
    """Why PostgreSQL cannot be used, or None if it answers."""
    try:
        psycopg.connect(POSTGRES_URL, connect_timeout=3).close()
    except psycopg.OperationalError as error:
        return f"it does not answer: {str(error).splitlines()[0]}"
    return None


def command(*arguments: str, **environment: str) -> str:
    """Run one step from the project's root and say how it ended."""
    print(f"\n$ {' '.join(Path(part).name if part.startswith('/') else part for part in arguments)}", flush=True)
    ended = subprocess.run(arguments, cwd=BASE_DIR, env={**os.environ, **environment}, check=False)
    return PASSED if ended.returncode == 0 else FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
