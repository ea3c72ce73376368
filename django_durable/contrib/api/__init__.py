"""The optional HTTP API: workflows that were declared with ``api=True``, as JSON over HTTP. Built on django-ninja.

::

    path("durable/", include("django_durable.contrib.api.urls"))

What it offers is in ``routes``; ``gate`` asks who you are, ``scope`` what you see and may do, both as the project's own
hooks in ``DURABLE["API"]`` say; every error is a document of ``problems``.
"""
