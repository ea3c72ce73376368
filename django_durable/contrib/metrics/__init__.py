"""Metrics for Prometheus: in ``INSTALLED_APPS``, it counts what instrumentation tells, in web processes and workers.

``instruments`` are counted in each process, ``queues`` are read from the database, ``serving`` is a worker's own
server, ``urls`` a page of the project.
"""
