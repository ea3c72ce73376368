"""Projects with ``USE_TZ = False``, as many are: Django then gives and takes local times without a time zone."""

from __future__ import annotations

import pytest

from tests.e2e.harness.scenarios import local_time

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.mark.parametrize("time_zone", ["UTC", "Europe/Berlin"])
def test_a_project_that_keeps_local_time_has_workflows_like_any_other(fresh_url: str, time_zone: str) -> None:
    local_time.run(fresh_url, time_zone)
