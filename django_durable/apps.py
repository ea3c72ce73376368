"""The Django app: finds definitions when Django is ready, and starts nothing."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import register
from django.core.signals import request_started, setting_changed
from django.utils.module_loading import autodiscover_modules

from django_durable import checks, conf, django_tasks, instrumentation
from django_durable.definitions.registry import MODULES, registry
from django_durable.engine import callbacks
from django_durable.payloads import limits


class DurableConfig(AppConfig):
    name = "django_durable"
    label = "durable"
    verbose_name = "Durable workflows"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Imported here because it loads models, which Django allows only now.
        from django_durable.client import tokens  # noqa: PLC0415
        from django_durable.worker import embedded  # noqa: PLC0415

        for check in checks.ALL:
            register(check, checks.TAG)
        limits.read_from(_limits)
        callbacks.address_with(tokens.address)
        setting_changed.connect(_forget_settings, dispatch_uid="durable.settings")
        request_started.connect(embedded.start_if_configured, dispatch_uid="durable.embedded")
        instrumentation.run_started.connect(embedded.start_if_configured, dispatch_uid="durable.embedded")
        registry.label_with(_label_of)
        registry.adapt_with(django_tasks.as_activity)
        autodiscover_modules(*MODULES)
        django_tasks.discover()


def _limits() -> limits.Limits:
    settings = conf.current()
    return limits.Limits(max_bytes=settings.MAX_PAYLOAD_BYTES, warn_bytes=settings.WARN_PAYLOAD_BYTES)


def _forget_settings(*, setting: str, **_: Any) -> None:
    if setting == "DURABLE":
        conf.forget()
        limits.reset()


def _label_of(module: str) -> str | None:
    """The app that a module belongs to; None while Django is still looking for its apps."""
    config = apps.get_containing_app_config(module) if apps.apps_ready else None
    return config.label if config else None
