"""Random programs end to end, each run straight, without the instance cache, with workers that die, and replayed.

``python -m benchmarks.programs --count 5000 --first 0``

On PostgreSQL (``DURABLE_TEST_POSTGRES_URL``), in a database of its own. ``--first`` is the first seed; a program that
fails is named by its seed, and written out.
"""

from __future__ import annotations

import argparse
import sys
import time

from benchmarks.environment import fresh_database

REPORT = 100  # programs between two lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5_000)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    with fresh_database():
        return check(range(options.first, options.first + options.count))


def check(seeds: range) -> int:
    """1 if a program has failed."""
    from django_durable.testing import environment  # noqa: PLC0415  needs the fresh database's settings
    from tests.programs import checking  # noqa: PLC0415

    began, events, failed = time.monotonic(), 0, []
    for number, seed in enumerate(seeds, 1):
        try:
            with environment() as env:
                events += checking.check(env, seed)
        except AssertionError as error:
            failed.append(seed)
            print(error, flush=True)
        if number % REPORT == 0 or number == len(seeds):
            seconds = time.monotonic() - began
            print(f"{number:,} programs, {events:,} events, {len(failed)} failed, {seconds:.0f} s", flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
