"""Random programs end to end, each run straight, without the instance cache, with workers that die, and replayed.

``python -m benchmarks.programs --count 5000 --seed 1 --database sqlite``

In a database of its own; the PostgreSQL server is that of ``DURABLE_TEST_POSTGRES_URL``. The first program that fails
is made as small as it can be, and written out with what is different.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time

from benchmarks.environment import fresh_database

REPORT = 50  # programs between two lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5_000)
    parser.add_argument(
        "--seed", type=int, default=random.randrange(1_000_000), help="the same gives the same programs"
    )
    parser.add_argument("--database", choices=("postgres", "sqlite"), default="postgres")
    options = parser.parse_args()
    print(f"{options.count:,} programs of seed {options.seed} on {options.database}", flush=True)
    with fresh_database(options.database):
        check(options.count, options.seed)
    return 0


def check(count: int, seed: int) -> None:
    """Raises ``AssertionError`` for the first program that fails."""
    import hypothesis  # noqa: PLC0415  not every benchmark needs it
    from hypothesis import strategies as st  # noqa: PLC0415

    from tests.programs import checking, generating  # noqa: PLC0415  needs the fresh database's settings

    logging.getLogger("django_durable").setLevel(logging.CRITICAL)  # workers die all the time
    began, figures = time.monotonic(), checking.Figures()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(program=generating.programs(ties=st.booleans()), deaths=st.integers(0, 2**32 - 1))
    def programs(program: generating.Program, deaths: int) -> None:
        nonlocal figures
        figures += checking.check(program, deaths)
        if figures.programs % REPORT == 0:
            report()

    def report() -> None:
        told = ", ".join(f"{number:,} {name}" for name, number in figures._asdict().items())
        print(f"{told}, {time.monotonic() - began:.0f} s", flush=True)

    try:
        programs()
    finally:
        report()


if __name__ == "__main__":
    sys.exit(main())
