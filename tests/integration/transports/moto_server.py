"""moto's server, told the time in a quicker way: it asks a hundred times for each message that is in a queue."""

from __future__ import annotations

import sys
import time
from datetime import datetime

from moto.core import utils


def unix_time(dt: datetime | None = None) -> float:
    return time.time() if dt is None else _slow(dt)


_slow, utils.unix_time = utils.unix_time, unix_time

if __name__ == "__main__":
    from moto import server

    server.main(sys.argv[1:])
