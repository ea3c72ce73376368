"""The files in ``deploy/`` are what the tools that read them expect, and leave workers the time they need to stop."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from django.core.management import get_commands
from jsonschema.validators import validator_for

from django_durable import conf
from django_durable.contrib.metrics import queues
from django_durable.worker import liveness

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
UNITS = sorted((DEPLOY / "systemd").iterdir())
MANIFESTS = [path for path in sorted((DEPLOY / "kubernetes").iterdir()) if path.name != "kustomization.yaml"]
KUBERNETES = "1.33"
DRAIN = conf.Settings().DRAIN_SECONDS
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent))


def documents() -> list[Any]:
    return [document for path in MANIFESTS for document in yaml.safe_load_all(path.read_text())]


def document(kind: str, name: str) -> Any:
    [found] = [one for one in documents() if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def commands() -> list[list[str]]:
    """Every command that starts ``manage.py``, in whatever file."""
    text = "\n".join(path.read_text() for path in (COMPOSE, DEPLOY / "Dockerfile", *MANIFESTS))
    lists = [yaml.safe_load(found) for found in re.findall(r"\[.*?\"manage\.py\".*?\]", text)]
    units = [line.split() for path in UNITS for line in path.read_text().splitlines() if "manage.py" in line]
    return [words[words.index("manage.py") + 1 :] for words in [*lists, *units]]


def test_the_compose_file_follows_its_specification():
    schema = get_builtin_schema("vendor.compose-spec")
    problems = validator_for(schema)(schema).iter_errors(yaml.safe_load(COMPOSE.read_text()))
    assert [problem.message for problem in problems] == []


def test_every_manifest_follows_the_schema_of_kubernetes():
    checked = [one for one in documents() if "keda.sh" not in one["apiVersion"]]
    for one in checked:
        kubernetes_validate.validate(one, KUBERNETES, strict=True)
    assert {"Deployment", "Job", "PodDisruptionBudget", "Service"} == {one["kind"] for one in checked}


@pytest.mark.slow
def test_the_scaler_follows_the_schema_of_keda():
    keda = pytest.importorskip("cloudcoil.models.keda.v1alpha1")
    scaler = document("ScaledObject", "shop-worker")
    model = keda.ScaledObject.model_validate(scaler)
    kept = model.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)
    assert kept["spec"] == scaler["spec"]


def test_the_kustomization_names_every_manifest():
    listed = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == [path.name for path in MANIFESTS]


def test_the_scaler_asks_for_a_metric_that_there_is():
    [trigger] = document("ScaledObject", "shop-worker")["spec"]["triggers"]
    metric = trigger["metadata"]["valueLocation"].partition("{")[0]
    assert metric in {name for name, _, _ in queues.GAUGES}
    service = document("Service", "shop-web")
    [container] = document("Deployment", "shop-web")["spec"]["template"]["spec"]["containers"]
    probe = container["readinessProbe"]["httpGet"]
    [host] = probe["httpHeaders"]
    address = f"http://{host['value']}:{service['spec']['ports'][0]['port']}{probe['path']}"
    assert trigger["metadata"]["url"] == address  # and the web server is ready while that answers


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_units(tmp_path):
    for unit in UNITS:
        text = unit.read_text().replace("/srv/venv/bin/python", sys.executable).replace("/srv/shop", str(tmp_path))
        (tmp_path / unit.name).write_text(text)
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / unit.name) for unit in UNITS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed")
def test_hadolint_has_nothing_to_say_of_the_dockerfile():
    checked = subprocess.run(
        [str(HADOLINT), "--no-color", str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout) == (0, "")


def test_whoever_stops_a_worker_waits_until_it_has_drained():
    compose = yaml.safe_load(COMPOSE.read_text())["services"]["worker"]
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(DEPLOY / "systemd" / "durable-worker@.service")
    pod = document("Deployment", "shop-worker")["spec"]["template"]["spec"]
    given = [
        float(compose["stop_grace_period"].removesuffix("s")),
        unit.getfloat("Service", "TimeoutStopSec"),
        float(pod["terminationGracePeriodSeconds"]),
    ]
    assert all(DRAIN + 10 <= seconds for seconds in given)


def test_workers_get_their_signals_themselves():
    compose = yaml.safe_load(COMPOSE.read_text())["services"]["worker"]
    [container] = document("Deployment", "shop-worker")["spec"]["template"]["spec"]["containers"]
    for command in (compose["command"], container["command"]):
        assert command[0] == "python"  # no shell between them and SIGTERM
    assert re.search(r'^CMD \["python"', (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)


def test_every_command_exists():
    used = {command[0] for command in commands()}
    assert {"durable_worker", "migrate"} <= used
    assert used <= set(get_commands())


def compose_probe() -> str:
    kind, probe = yaml.safe_load(COMPOSE.read_text())["services"]["worker"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    return str(probe).replace("$$", "$")


def systemd_probe() -> str:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(DEPLOY / "systemd" / "durable-health.service")
    shell, option, line = shlex.split(unit["Service"]["ExecStart"].replace("\\\n", " "))
    assert (shell, option) == ("/bin/sh", "-c")
    return line.replace("systemctl try-restart 'durable-worker@*'", "exit 1")


@pytest.mark.parametrize("probe", [compose_probe, systemd_probe])
@pytest.mark.parametrize(
    ("ages", "healthy"), [([], False), ([1], True), ([1, 5], True), ([60], False), ([1, 60], False)]
)
def test_probes_without_python_want_a_worker_and_none_that_is_silent(tmp_path, probe, ages, healthy):
    """``ages``: seconds since the last step of each worker."""
    for number, age in enumerate(ages):
        sign = tmp_path / f"{number}{liveness.SUFFIX}"
        sign.touch()
        os.utime(sign, (time.time() - age, time.time() - age))
    assert conf.Settings().LEASE_SECONDS == 0.25 * 60
    line = probe().replace("/run/durable", str(tmp_path))
    assert subprocess.run(["/bin/sh", "-c", line], check=False).returncode == (0 if healthy else 1)


def test_probes_ask_the_port_on_which_the_worker_serves_them():
    [container] = document("Deployment", "shop-worker")["spec"]["template"]["spec"]["containers"]
    [port] = container["ports"]
    assert container["command"][-2:] == ["--metrics-port", str(port["containerPort"])]
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
    assert [(probe["path"], probe["port"]) for probe in probes] == [
        ("/live", port["name"]),
        ("/live", port["name"]),
        ("/ready", port["name"]),
    ]
