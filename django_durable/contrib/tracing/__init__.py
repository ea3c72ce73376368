"""Traces for OpenTelemetry: in ``INSTALLED_APPS``, a start, each attempt of an activity and each run become spans.

The trace of a start goes along with the run in any case (``django_durable.propagation``); these spans show it.
"""
