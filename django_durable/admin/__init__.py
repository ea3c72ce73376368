"""The admin's pages: runs and workers to be read, queues and schedules to be looked after.

Django's admin finds this module by itself.
A site of your own registers the same classes: ``site.register(WorkflowRun, WorkflowRunAdmin)``.
"""

from __future__ import annotations

from django.contrib import admin

from django_durable.admin.queues import QueueAdmin
from django_durable.admin.runs import WorkflowRunAdmin
from django_durable.admin.schedules import ScheduleAdmin
from django_durable.admin.workers import WorkerAdmin
from django_durable.models import Queue, Schedule, Worker, WorkflowRun

__all__ = ["WorkflowRunAdmin", "QueueAdmin", "ScheduleAdmin", "WorkerAdmin"]

admin.site.register(WorkflowRun, WorkflowRunAdmin)
admin.site.register(Queue, QueueAdmin)
admin.site.register(Schedule, ScheduleAdmin)
admin.site.register(Worker, WorkerAdmin)
