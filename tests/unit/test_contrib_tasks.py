"""The backend of ``django.tasks``: its options and its checks."""

from __future__ import annotations

import pickle
import sys
from datetime import timedelta
from typing import Any

import django
import pytest

from django_durable import DefinitionError, Retry, django_tasks
from django_durable.contrib.tasks import DurableBackend, options
from django_durable.contrib.tasks.interface import InvalidTask
from tests.flows import tasks

BACKEND = "django_durable.contrib.tasks.DurableBackend"


def read(**given: Any) -> options.TaskOptions:
    return options.read(given, owner="X")


def test_without_options_a_task_is_called_once():
    assert read() == options.TaskOptions(retry=Retry(max_attempts=1), start_to_close=None, at_most_once=False)


def test_a_policy_may_be_a_dict_with_seconds():
    policy = read(retry={"max_attempts": 3, "initial_interval": 2, "max_interval": timedelta(minutes=1)}).retry
    assert policy == Retry(max_attempts=3, initial_interval=timedelta(seconds=2), max_interval=timedelta(minutes=1))


def test_options_are_stored_as_what_they_are():
    given = read(retry=Retry(retryable=[OSError]), start_to_close=2.5, at_most_once=True)
    again = options.load(options.dump(given))
    assert (again.start_to_close, again.at_most_once) == (timedelta(seconds=2.5), True)
    assert again.retry.allows(ConnectionError(), 1)
    assert not again.retry.allows(ValueError(), 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"retries": 3}, "no option 'retries'"),
        ({"retry": 3}, "retry must be a Retry"),
        ({"retry": {"max_attemps": 3}}, "Did you mean 'max_attempts'"),
        ({"retry": {"max_attempts": 0}}, "max_attempts"),
        ({"retry": Retry(when=bool)}, "cannot be stored"),
        ({"start_to_close": 0}, "longer than zero"),
        ({"start_to_close": "1h"}, "timedelta"),
        ({"at_most_once": 1}, "True or False"),
    ],
    ids=str,
)
def test_options_that_could_not_work_are_refused(given, message):
    with pytest.raises(DefinitionError, match=message):
        options.read(given, owner="X")
    (error,) = DurableBackend("x", {"OPTIONS": given}).check()
    assert (error.id, error.is_serious()) == ("durable.E201", True)


def test_a_task_refuses_options_that_could_not_work():
    with pytest.raises(InvalidTask, match="retry must be a Retry"):
        tasks.add.using(retry=3)


@pytest.mark.skipif((6,) <= django.VERSION < (6, 1), reason="@task of Django 6.0 hands no options on")
def test_the_decorator_takes_them():
    task = tasks.task(backend="durable", retry={"max_attempts": 2}, start_to_close=5)(tasks.no_task)
    assert (task.retry, task.start_to_close) == ({"max_attempts": 2}, 5)


def test_using_leaves_what_is_not_given():
    patient = tasks.add.using(retry={"max_attempts": 2}).using(priority=3)
    assert (patient.retry, patient.priority, tasks.add.retry) == ({"max_attempts": 2}, 3, None)
    assert tasks.add.using() is tasks.add


def test_the_app_must_be_installed(settings):
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "django_durable"]
    (error,) = DurableBackend("x", {}).check()
    assert error.id == "durable.E202"


def test_a_backend_that_is_not_there_is_djangos_to_tell(settings, monkeypatch):
    settings.TASKS = {"one": {"BACKEND": "no.such.Backend"}, "other": {}}
    assert django_tasks.load_backends()
    monkeypatch.delitem(sys.modules, django_tasks.BACKEND)
    assert not django_tasks.load_backends()


@pytest.mark.skipif(django.VERSION < (6, 1), reason="tasks can be pickled from Django 6.1 on")
def test_a_task_can_be_pickled():
    patient = tasks.add.using(retry={"max_attempts": 2}, priority=3)
    again = pickle.loads(pickle.dumps(patient))
    assert (again.func, again.retry, again.priority) == (tasks.add.func, {"max_attempts": 2}, 3)
