"""Workflows and activities that log, and tell Sentry something."""

from __future__ import annotations

import logging
from datetime import timedelta

import sentry_sdk

from django_durable import Context, Retry, durable

logger = logging.getLogger("tests.flows")


@durable.activity(retry=Retry(max_attempts=2, initial_interval=timedelta(0)))
def speaks_up(text: str) -> None:
    logger.info("%s", text)
    if durable.current_activity().attempt == 1:
        raise ConnectionError("once more")


@durable.activity
def captures() -> None:
    sentry_sdk.capture_message("something is odd")


@durable.workflow
async def speaks(ctx: Context, text: str) -> None:
    ctx.log.info("%s", text)
    await ctx.activity(speaks_up, text)
