"""Django set up for the test settings, for scripts that import models: import this module before them."""

from __future__ import annotations

import os

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
django.setup()
