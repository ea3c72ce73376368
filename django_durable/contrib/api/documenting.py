"""What django-ninja leaves out of the OpenAPI schema: every operation's errors, and headers of its answers."""

from __future__ import annotations

from typing import Any

from ninja.openapi.schema import REF_TEMPLATE
from ninja.schema import NinjaGenerateJsonSchema

from django_durable.contrib.api import problems, schemas

DESCRIPTIONS = {
    400: "A cursor of other filters, or a body that is not JSON.",
    401: "Nobody knows who you are.",
    403: "You may not.",
    404: "There is no such thing, or you may not see it.",
    409: "Not as things are: it has ended, it is taken, or the key came with something else.",
    413: "The body is too large, or the history is too long.",
    422: "The request does not fit the schema, or its values do not fit the workflow.",
    429: "Too many queries at a time.",
    500: "Something is wrong with the server.",
    503: "The database does not answer.",
    504: "The query took too long.",
}
EVERYWHERE = (401, 403, 422, 500, 503)
WITH_BODY = (400, 413)
OF_ONE = (404, 409)
ELSEWHERE: dict[str, tuple[int, ...]] = {
    "start_workflow": (404, 409),
    "create_schedule": (404, 409),
    "list_workflows": (400,),
    "query_workflow": (429, 504),
}


def add_problems(schema: dict[str, Any]) -> None:
    """Add to each operation the problems that it may answer."""
    model = schemas.Problem.model_json_schema(ref_template=REF_TEMPLATE, schema_generator=NinjaGenerateJsonSchema)
    schema["components"]["schemas"].update(model.pop("$defs", {}))
    schema["components"]["schemas"]["Problem"] = model
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            for status in sorted(_problems_of(path, operation)):
                operation["responses"].setdefault(status, _response(status))


def _problems_of(path: str, operation: dict[str, Any]) -> set[int]:
    found = {*EVERYWHERE, *ELSEWHERE.get(operation["operationId"], ())}
    if "{" in path:
        found |= set(OF_ONE)
    if "requestBody" in operation:
        found |= set(WITH_BODY)
    return found


def _response(status: int) -> dict[str, Any]:
    content = {problems.CONTENT_TYPE: {"schema": {"$ref": REF_TEMPLATE.format(model="Problem")}}}
    return {"description": DESCRIPTIONS[status], "content": content}
