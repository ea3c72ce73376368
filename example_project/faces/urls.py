"""Each style under a path of its own; those of packages that are not installed are left out."""

from __future__ import annotations

from importlib.util import find_spec

from django.urls import include, path

from example_project.faces import asynchronous, classes, functions

urlpatterns = [
    path("function/", include(functions.urlpatterns)),
    path("class/", include(classes.urlpatterns)),
    path("async/", include(asynchronous.urlpatterns)),
]
for package, prefix, module in (("rest_framework", "rest/", "rest"), ("ninja", "ninja/", "ninja_api")):
    if find_spec(package):
        urlpatterns.append(path(prefix, include(f"example_project.faces.{module}")))
