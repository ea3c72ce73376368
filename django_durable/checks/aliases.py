"""System checks of several databases and tenants: where our tables are, and who finds them there."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.db import connections, router

from django_durable import conf

ROUTER = "django_durable.routers.DurableRouter"


def check_router(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """durable.W011: our models are looked for in another database than ``DURABLE["DATABASE"]``."""
    ours = conf.current().DATABASE
    if ours not in connections or len(connections.settings) < 2:
        return []
    model = apps.get_model("durable", "WorkflowRun")
    place = router.db_for_write(model)
    elsewhere = [alias for alias in connections if alias != ours and router.allow_migrate_model(alias, model)]
    if place == ours and router.allow_migrate_model(ours, model) and not (elsewhere and ours != "default"):
        return []
    return [
        Warning(
            f'DURABLE["DATABASE"] is {ours!r}, but models of django_durable are read and written on {place!r}, and '
            f"migrate makes their tables on {', '.join(map(repr, [*elsewhere, ours]))}.",
            hint=f'Begin DATABASE_ROUTERS with "{ROUTER}", then run migrate --database {ours}.',
            id="durable.W011",
        )
    ]


def check_tenants(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """durable.E012: django-tenants would give each tenant tables of ours, which no worker looks at."""
    if "django_durable" not in getattr(settings, "TENANT_APPS", ()):
        return []
    return [
        Error(
            "django_durable is in TENANT_APPS: a start in a tenant's schema would go to tables that no worker sees.",
            hint="Move it to SHARED_APPS; docs/databases.md says how activities find the tenant's schema.",
            id="durable.E012",
        )
    ]


ALL = (check_router, check_tenants)
