"""System checks: what is wrong with the settings and with the code of workflows, before anything runs."""

from django_durable.checks import settings, workflows

TAG = "durable"
ALL = (*settings.ALL, *workflows.ALL)
