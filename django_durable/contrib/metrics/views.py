"""A page that Prometheus, or KEDA, reads."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client.exposition import choose_encoder

from django_durable.contrib.metrics import queues


@never_cache
@require_safe
def queue_metrics(request: HttpRequest) -> HttpResponse:
    """Depth and oldest age of each queue, in the format that the request accepts."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(queues.registry), content_type=content_type)
