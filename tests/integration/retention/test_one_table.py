"""Where there are no parts: on other databases than PostgreSQL."""

from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from django_durable.store import clock, partitions

pytestmark = [pytest.mark.django_db, pytest.mark.skipif(connection.vendor == "postgresql", reason="not PostgreSQL")]


def test_the_events_stay_in_one_table():
    with pytest.raises(CommandError, match="Only PostgreSQL"):
        call_command("durable_partition")
    assert partitions.parts() == []
    assert partitions.keep_up(clock.read()) == []
