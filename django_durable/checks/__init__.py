"""System checks: what is wrong with the settings and with the code of workflows, before anything runs."""

from django_durable.checks import aliases, databases, mariadb, retention, settings, workflows
from django_durable.contrib.api import checks as api

TAG = "durable"
ALL = (*settings.ALL, *aliases.ALL, *retention.ALL, *workflows.ALL, *api.ALL)
CONNECTING = (*databases.ALL, *mariadb.ALL)
"""These ask the database, so Django runs them only for ``migrate`` and ``check --database``."""
