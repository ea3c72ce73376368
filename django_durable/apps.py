"""The Django app: finds definitions when Django is ready, and starts nothing."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import Tags, register
from django.core.signals import request_started, setting_changed
from django.db.models.signals import post_migrate
from django.utils.module_loading import autodiscover_modules

from django_durable import api, checks, conf, django_tasks, instrumentation
from django_durable.definitions import stored_retry
from django_durable.definitions.registry import MODULES, registry
from django_durable.engine import callbacks
from django_durable.payloads import limits, sealing


class DurableConfig(AppConfig):
    name = "django_durable"
    label = "durable"
    verbose_name = "Durable workflows"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Imported here because it loads models, which Django allows only now.
        from django_durable.client import signed_names, tokens  # noqa: PLC0415
        from django_durable.store import collation  # noqa: PLC0415
        from django_durable.worker import embedded  # noqa: PLC0415

        api.load_types()
        for check in checks.ALL:
            register(check, checks.TAG)
        for check in checks.CONNECTING:
            register(check, Tags.database, checks.TAG)
        limits.read_from(_limits)
        sealing.read_from(_sealing)
        callbacks.address_with(tokens.address)
        stored_retry.sign_with(signed_names.sign, signed_names.read)
        setting_changed.connect(_forget_settings, dispatch_uid="durable.settings")
        collation.search_in_any_case(self.get_models())
        post_migrate.connect(collation.hold_exactly, sender=self, dispatch_uid="durable.collation")
        request_started.connect(embedded.start_if_configured, dispatch_uid="durable.embedded")
        instrumentation.run_started.connect(embedded.start_if_configured, dispatch_uid="durable.embedded")
        registry.label_with(_label_of)
        registry.adapt_with(django_tasks.as_activity)
        autodiscover_modules(*MODULES)
        if django_tasks.load_backends():
            autodiscover_modules("tasks")
        django_tasks.discover()


def _limits() -> limits.Limits:
    settings = conf.current()
    most = settings.MAX_PAYLOAD_BYTES
    return limits.Limits(max_bytes=most, warn_bytes=min(settings.WARN_PAYLOAD_BYTES, most))  # nothing smaller is judged


def _sealing() -> sealing.Sealing:
    return sealing.from_settings(conf.current().PAYLOADS or {})


def _forget_settings(*, setting: str, **_: Any) -> None:
    if setting == "DURABLE":
        conf.forget()
        limits.reset()
        sealing.reset()


def _label_of(module: str) -> str | None:
    """The app that a module belongs to; None while Django is still looking for its apps."""
    config = apps.get_containing_app_config(module) if apps.apps_ready else None
    return config.label if config else None
