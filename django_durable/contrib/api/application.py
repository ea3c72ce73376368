"""The API as one object: its operations, its errors, its schema."""

from __future__ import annotations

from typing import Any

from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema

from django_durable.contrib.api import documenting, gate, problems
from django_durable.contrib.api.routes import acts, messages, operations, results, schedules, workflows

NAMESPACE = "durable_api"


class DurableAPI(NinjaAPI):
    """A ``NinjaAPI`` whose schema tells the errors, too."""

    def get_openapi_schema(self, **kwargs: Any) -> OpenAPISchema:
        schema = super().get_openapi_schema(**kwargs)
        documenting.add_problems(schema)
        return schema


api = DurableAPI(
    title="Durable workflows",
    version="1",
    description="Start workflows, send them messages, see how they are. Errors are problem documents (RFC 9457).",
    urls_namespace=NAMESPACE,
    auth=gate.Authentication(),
)
problems.handle_all(api)
for routes in (workflows, results, messages, acts, schedules, operations):
    api.add_router("", routes.router)
