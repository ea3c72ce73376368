"""A process that begins as one of Lambda's does: it imports the handler, invokes it once, and is not used again."""

from __future__ import annotations

import importlib
import json
import sys


def main(handler: str, seconds: str) -> None:
    module, _, name = handler.rpartition(".")
    invoke = getattr(importlib.import_module(module), name)
    from tests.integration.serverless.platform import Context  # noqa: PLC0415  (only the handler sets Django up)

    json.dump(invoke(json.load(sys.stdin), Context(float(seconds))), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
