"""For ``DATABASE_ROUTERS``: a router that sends our tables to ``DURABLE["DATABASE"]``."""

from __future__ import annotations

from typing import Any

from django_durable import conf

APP_LABEL = "durable"


class DurableRouter:
    """Has an opinion about our own models only."""

    def db_for_read(self, model: type[Any], **hints: Any) -> str | None:
        return conf.current().DATABASE if model._meta.app_label == APP_LABEL else None

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """Our tables are made where they are used, and nowhere else."""
        return db == conf.current().DATABASE if app_label == APP_LABEL else None
