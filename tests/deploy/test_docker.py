"""deploy/compose.yaml holds to the Compose specification and to rules of our own, and so does the gateway's image."""

import json
import os
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from gateway.catalog_files import CatalogFiles
from gateway.settings import unknown
from local.system import NAMES

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy" / "compose.yaml"
COMPOSED: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSED["services"]
WORKERS = {name: service for name, service in SERVICES.items() if name.endswith("-worker")}
SERVERS = {name.removesuffix("-worker"): SERVICES[name.removesuffix("-worker")] for name in WORKERS}
every_service = pytest.mark.parametrize("name", SERVICES)


def test_it_follows_the_specification() -> None:
    schemas = resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((schemas / "compose-spec.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(schema).validate(COMPOSED)


@every_service
def test_a_service_can_do_no_more_than_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "devices", "userns_mode"} & service.keys()
    assert service["security_opt"] == ["no-new-privileges:true"]
    user, _, group = service["user"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    for tmpfs in service["tmpfs"]:
        assert "size=" in tmpfs


@every_service
def test_a_service_has_limits_a_check_and_time_to_end(name: str) -> None:
    service = SERVICES[name]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["cpus"]
    assert service["stop_grace_period"]
    assert service["logging"]["options"]["max-size"]
    assert service["healthcheck"] == {"disable": True} if name == "migration" else "test" in service["healthcheck"]
    assert service["restart"] == ("no" if name == "migration" else "unless-stopped")


def test_only_its_worker_reaches_a_cog_server() -> None:
    assert SERVERS.keys() == {f"{model}{size}" for model in NAMES for size in ("", "-small")}
    for name, server in SERVERS.items():
        (network,) = server["networks"]
        assert COMPOSED["networks"][network] == {"internal": True}
        on_it = {other for other, service in SERVICES.items() if network in service["networks"]}
        assert on_it == {name, f"{name}-worker"}
        assert "ports" not in server


def test_only_the_gateway_is_reached_from_outside_on_loopback_and_the_workers_which_fetch_inputs_reach_it() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["gateway"]
    assert SERVICES["gateway"]["ports"] == ["${GATEWAY_ADDRESS:-127.0.0.1:5000}:5000"]

    reach_it = {name for name, service in SERVICES.items() if "outside" in service["networks"]}
    assert reach_it == {"gateway", *WORKERS}


def test_each_worker_serves_a_queue_of_the_catalog_beside_its_own_server() -> None:
    queues = {version.queue for version in CatalogFiles(ROOT / "gateway" / "catalog.json").load().versions()}
    for profile in ("small", "gpu"):
        served = set()
        for name, worker in WORKERS.items():
            if worker["profiles"] == [profile]:
                server = name.removesuffix("-worker")
                command = worker["command"]
                served.add(command[command.index("--queue") + 1])
                assert command[command.index("--cog-url") + 1] == f"http://{server}:5000"
                assert SERVERS[server]["profiles"] == [profile]
                alias = worker["environment"]["GATEWAY_CALLBACK_HOST"]
                assert worker["networks"][server]["aliases"] == [alias]  # the Cog server finds it by this name
        assert served == queues


def test_the_images_are_named_as_cog_builds_them() -> None:
    for config in ("cog.yaml", "cog.walk.yaml", "cog.deforum.yaml"):
        image = yaml.safe_load((ROOT / config).read_text(encoding="utf-8"))["image"]
        assert {server["image"] for name, server in SERVERS.items() if name.startswith(image)} == {image}


def test_a_worker_is_stopped_before_its_cog_server() -> None:
    for name, worker in WORKERS.items():
        # Compose stops in the reverse order of dependencies, and SIGTERM makes a Cog server drop what it runs.
        assert name.removesuffix("-worker") in worker["depends_on"]
        assert worker["stop_grace_period"] == "600s"


def test_settings_exist_and_secrets_are_not_in_the_file() -> None:
    for service in SERVICES.values():
        environment = service.get("environment", {})
        assert unknown(environment) == []
        for value in environment.values():
            assert "password" not in str(value).lower().replace("${database_password:?", "")
    url = SERVICES["gateway"]["environment"]["GATEWAY_DATABASE_URL"]
    assert "${DATABASE_PASSWORD:?" in url
    assert "deploy/.env" in (ROOT / ".gitignore").read_text(encoding="utf-8")


@pytest.mark.skipif(
    subprocess.run([shutil.which("docker") or "false", "compose", "version"], capture_output=True).returncode != 0,
    reason="Docker Compose is not here",
)
@pytest.mark.parametrize("profile", ["small", "gpu"])
def test_compose_itself_takes_it(profile: str, tmp_path: Path) -> None:
    command = ["docker", "compose", "-f", str(FILE), "--profile", profile, "config", "--format", "json"]
    given = {**os.environ, "DATABASE_PASSWORD": "a" * 48}
    read = subprocess.run(command, env=given, cwd=tmp_path, capture_output=True, text=True)
    assert read.returncode == 0, read.stderr
    services = json.loads(read.stdout)["services"]
    assert services.keys() == {
        name for name, service in SERVICES.items() if service.get("profiles", [profile]) == [profile]
    }
    assert services["gateway"]["environment"]["GATEWAY_DATABASE_URL"].startswith(f"postgresql://gateway:{'a' * 48}@")
    assert "GATEWAY_PUBLIC_URL" not in {k for k, v in services["gateway"]["environment"].items() if v == ""}


DOCKERFILE = ROOT / "deploy" / "gateway.Dockerfile"
LINES = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def after(instruction: str) -> list[str]:
    return [line.removeprefix(instruction).strip() for line in LINES if line.startswith(f"{instruction} ")]


def test_it_carries_the_gateway_and_nothing_else() -> None:
    ignored = (ROOT / "deploy" / "gateway.Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {line.split()[0] for line in after("COPY")}
    assert copied == let_in
    for name in copied:
        assert (ROOT / name).exists()


def test_it_runs_without_root_on_a_pinned_base_and_is_watched() -> None:
    (base,) = after("FROM")
    assert base == "python:3.11-slim-bookworm"
    assert after("USER")[-1] == "10001:10001"
    (check,) = after("HEALTHCHECK")
    assert check.endswith('CMD ["python", "-m", "gateway.probe"]')
    for command in (*after("RUN"), *after("CMD")):
        assert command.startswith("["), f"{command} would need a shell"
