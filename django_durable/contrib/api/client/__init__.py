"""A client of the HTTP API, with types: for other services, which need neither a database nor settings of Django.

::

    with DurableClient("https://example.com/durable", headers={"Authorization": "Bearer ..."}) as client:
        client.start_workflow("shop.order", [2], workflow_id="order-7")
        print(client.wait_for_result("order-7", timeout=60).result)

Needs httpx: ``pip install "django-durable-workflows[client]"``.
"""

from django_durable.contrib.api.client import models
from django_durable.contrib.api.client.client import DurableClient
from django_durable.contrib.api.client.errors import ProblemError

__all__ = ["DurableClient", "ProblemError", "models"]
