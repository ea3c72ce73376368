"""Settings of the test suite. ``DURABLE_TEST_DATABASE_URL`` says which database; SQLite is the default.

``DURABLE_TEST_SUFFIX`` is appended to the name of the test database, so that several runs do not meet.
``DURABLE_TEST_SETTINGS`` is the ``DURABLE`` dict as JSON, for worker processes that tests start.
``DURABLE_TEST_LOCAL_TIME`` names a time zone: the project then keeps local time, as ``USE_TZ = False`` has it.
``DURABLE_TEST_CONNECTION_TIME_ZONE`` is the ``TIME_ZONE`` of the database.
``DURABLE_TEST_DATABASE_SETTINGS`` is what the entry of ``DATABASES`` has besides, as JSON.
``DURABLE_TEST_ARCHIVE_URL`` adds a second database, ``archive``.
``DURABLE_TEST_APPS`` names more apps to install, with commas between them.
``DURABLE_TEST_REDIS_URL`` makes a Redis the default cache.
"""

from __future__ import annotations

import getpass
import importlib.util
import json
import os
import tempfile
from pathlib import Path

import django

from example_project import database
from example_project import settings as example

SUFFIX = os.environ.get("DURABLE_TEST_SUFFIX", "")
DIRECTORY = Path(tempfile.gettempdir()) / f"django_durable_tests_{getpass.getuser()}"
DIRECTORY.mkdir(mode=0o700, exist_ok=True)

DATABASES = {
    "default": database.from_url(
        os.environ.get("DURABLE_TEST_DATABASE_URL") or database.sqlite_url(DIRECTORY / f"unused{SUFFIX}.sqlite3")
    ),
}
if "DURABLE_TEST_CONNECTION_TIME_ZONE" in os.environ:
    DATABASES["default"]["TIME_ZONE"] = os.environ["DURABLE_TEST_CONNECTION_TIME_ZONE"]
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # A file: threads and processes share it, which ":memory:" cannot be. It need not survive a power cut.
    DATABASES["default"]["TEST"] = {"NAME": str(DIRECTORY / f"test{SUFFIX}.sqlite3")}
    DATABASES["default"]["OPTIONS"]["init_command"] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
else:
    DATABASES["default"]["TEST"] = {"NAME": f"test_durable{SUFFIX}"}
for name, value in json.loads(os.environ.get("DURABLE_TEST_DATABASE_SETTINGS", "{}")).items():
    DATABASES["default"][name] = {**DATABASES["default"]["OPTIONS"], **value} if name == "OPTIONS" else value
if "DURABLE_TEST_ARCHIVE_URL" in os.environ:
    DATABASES["archive"] = database.from_url(os.environ["DURABLE_TEST_ARCHIVE_URL"])

if "DURABLE_TEST_REDIS_URL" in os.environ:
    CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": os.environ["DURABLE_TEST_REDIS_URL"]}}

SECRET_KEY = "tests only"
_TASKS = "django.tasks" if django.VERSION >= (6,) else "django_tasks"
_DURABLE_TASKS = "django_durable.contrib.tasks.DurableBackend"
_QUICK = {"max_attempts": 3, "initial_interval": 0.01, "max_interval": 0.02, "non_retryable": ["LookupError"]}
TASKS = {
    "default": {"BACKEND": f"{_TASKS}.backends.dummy.DummyBackend", "QUEUES": []},
    "durable": {"BACKEND": _DURABLE_TASKS, "QUEUES": ["default", "mail"]},
    "patient": {"BACKEND": _DURABLE_TASKS, "QUEUES": [], "OPTIONS": {"retry": _QUICK}},
}
MIDDLEWARE = example.MIDDLEWARE
TEMPLATES = example.TEMPLATES
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_durable",
    "example_project.shop",
]
if importlib.util.find_spec("tests.flows"):
    INSTALLED_APPS.append("tests.flows")
INSTALLED_APPS += filter(None, os.environ.get("DURABLE_TEST_APPS", "").split(","))
ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"
LOCAL_TIME = os.environ.get("DURABLE_TEST_LOCAL_TIME", "")
USE_TZ = not LOCAL_TIME
TIME_ZONE = LOCAL_TIME or "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DURABLE = json.loads(os.environ.get("DURABLE_TEST_SETTINGS", "{}"))
