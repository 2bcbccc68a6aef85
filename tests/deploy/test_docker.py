"""deploy/compose.yaml holds to the Compose specification and to rules of our own, and so does the gateway's image."""

import json
import os
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

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
SERVERS = {  # Cog servers: of each model one for either profile
    f"{model}-{profile}": SERVICES[f"{model}-{profile}"] for model in NAMES for profile in ("small", "gpu")
}
CLOSED = {"internal": True, "driver_opts": {"com.docker.network.bridge.inhibit_ipv4": "true"}}
# tini is the first process of every container: the images that Cog builds start it themselves.
OF_COG = [*SERVERS, *(name for name in SERVICES if name.endswith("-preview"))]
COMPOSES_OWN = {"COG_GATEWAY_ADDRESS", "COG_GATEWAY_IMAGE", "COG_GATEWAY_SUBNET"}
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


@every_service
def test_a_container_has_one_init(name: str) -> None:
    assert SERVICES[name].get("init", False) is (name not in OF_COG)


def test_only_its_worker_reaches_a_cog_server_and_that_reaches_nothing_else() -> None:
    for model in NAMES:
        on_it = {name for name, service in SERVICES.items() if model in service["networks"]}
        assert on_it == {f"{model}-worker", f"{model}-small", f"{model}-gpu"}
        assert WORKERS[f"{model}-worker"]["networks"].keys() == {"database", "outside", model}
    for server in SERVERS.values():
        assert len(server["networks"]) == 1
        assert "ports" not in server
    networks = COMPOSED["networks"]
    assert {name for name, network in networks.items() if network != CLOSED} == {"outside"}


def test_only_the_gateway_is_reached_from_outside_on_loopback_and_the_workers_which_fetch_inputs_reach_it() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["gateway"]
    assert SERVICES["gateway"]["ports"] == ["${COG_GATEWAY_ADDRESS:-127.0.0.1:5000}:5000"]

    reach_it = {name for name, service in SERVICES.items() if "outside" in service["networks"]}
    assert reach_it == {"gateway", *WORKERS}


def test_each_worker_serves_a_queue_of_the_catalog_beside_its_own_server() -> None:
    queues = {}
    for name, worker in WORKERS.items():
        model = name.removesuffix("-worker")
        command = worker["command"]
        queues[model] = command[command.index("--queue") + 1]
        # They find each other by these names, which every model's network has for itself.
        assert command[command.index("--cog-url") + 1] == "http://cog:5000"
        assert worker["environment"]["GATEWAY_CALLBACK_HOST"] == "worker"
        assert worker["networks"][model]["aliases"] == ["worker"]
        for profile in ("small", "gpu"):
            assert SERVERS[f"{model}-{profile}"]["networks"][model]["aliases"] == ["cog"]
            assert SERVERS[f"{model}-{profile}"]["profiles"] == [profile]
            assert SERVERS[f"{model}-{profile}"]["image"] == model
        assert worker["profiles"] == ["small", "gpu"]
    assert queues == NAMES
    assert set(queues.values()) == {v.queue for v in CatalogFiles(ROOT / "gateway" / "catalog.json").load().versions()}


def test_each_preview_is_reached_from_the_gateway_alone() -> None:
    defaults = dict(line.split("=", 1) for line in (ROOT / "deploy" / "defaults.env").read_text().splitlines()[1:])
    previews = json.loads(defaults["GATEWAY_PREVIEWS"].strip("'"))
    assert set(previews) <= set(NAMES.values())
    urls = [urlsplit(url) for url in previews.values()]
    services = {url.hostname: str(url.port) for url in urls}
    assert services.keys() == {name for name in SERVICES if name.endswith("-preview")}
    for name, port in services.items():
        assert name
        assert SERVICES[name]["command"][-2:] == ["--port", port]
        assert SERVICES[name]["image"] == name.removesuffix("-preview")
        assert SERVICES[name]["networks"] == ["previews"]
    assert {name for name, service in SERVICES.items() if "previews" in service["networks"]} == {"gateway", *services}


def test_the_images_are_named_as_cog_builds_them() -> None:
    for config in ("cog.yaml", "cog.walk.yaml", "cog.deforum.yaml", "cog.music-video.yaml"):
        image = yaml.safe_load((ROOT / config).read_text(encoding="utf-8"))["image"]
        assert {server["image"] for name, server in SERVERS.items() if name.startswith(image)} == {image}


def test_a_worker_is_stopped_before_its_cog_server() -> None:
    for name, worker in WORKERS.items():
        # Compose stops in the reverse order of dependencies, and SIGTERM makes a Cog server drop what it runs.
        model = name.removesuffix("-worker")
        assert worker["depends_on"].keys() == {"postgres", f"{model}-small", f"{model}-gpu"}
        assert worker["stop_grace_period"] == "600s"


def test_the_gateway_does_not_stand_still_for_a_dependency_but_postgres() -> None:
    # Otherwise `up` of the gateway alone, in deploy/upgrade, would take the time of that too.
    assert SERVICES["gateway"]["depends_on"].keys() == {"postgres"}


def test_every_setting_can_be_set_in_the_env_file() -> None:
    fixed = {"GATEWAY_DATABASE_URL", "GATEWAY_HOST", "GATEWAY_PORT", "GATEWAY_CALLBACK_HOST", "GATEWAY_ALIVE_FILE"}
    for name in ("gateway", "migration", *WORKERS):
        assert SERVICES[name]["env_file"] == [{"path": "defaults.env"}, {"path": ".env", "required": False}]
        assert SERVICES[name]["environment"].keys() <= fixed
    # What Compose reads itself has other names: the gateway would report unknown settings.
    text = FILE.read_text(encoding="utf-8")
    assert set(re.findall(r"\$\{(\w+)", text)) == {"DATABASE_PASSWORD", *COMPOSES_OWN}
    documented = (ROOT / "docs" / "deploy" / "system.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in documented for name in fixed - {"GATEWAY_DATABASE_URL"} | COMPOSES_OWN)


def test_settings_exist_and_secrets_are_not_in_the_file() -> None:
    for service in SERVICES.values():
        environment = service.get("environment", {})
        assert unknown(environment) == []
        for value in environment.values():
            assert "password" not in str(value).lower().replace("${database_password:?", "")
    url = SERVICES["gateway"]["environment"]["GATEWAY_DATABASE_URL"]
    assert "${DATABASE_PASSWORD:?" in url
    assert "deploy/.env" in (ROOT / ".gitignore").read_text(encoding="utf-8")


composes = pytest.mark.skipif(
    subprocess.run([shutil.which("docker") or "false", "compose", "version"], capture_output=True).returncode != 0,
    reason="Docker Compose is not here",
)


def read_by_compose(folder: Path, profile: str) -> dict[str, Any]:
    command = ["docker", "compose", "--profile", profile, "config", "--format", "json"]
    given = {**os.environ, "DATABASE_PASSWORD": "a" * 48}
    read = subprocess.run(command, env=given, cwd=folder, capture_output=True, text=True)
    assert read.returncode == 0, read.stderr
    services: dict[str, Any] = json.loads(read.stdout)["services"]
    return services


def copied(folder: Path) -> Path:
    """Copy what Compose reads, but no file of a developer's."""
    for name in ("compose.yaml", "defaults.env"):
        shutil.copy(ROOT / "deploy" / name, folder)
    return folder


@composes
@pytest.mark.parametrize("profile", ["small", "gpu"])
def test_compose_itself_takes_it(profile: str, tmp_path: Path) -> None:
    services = read_by_compose(copied(tmp_path), profile)
    assert services.keys() == {
        name for name, service in SERVICES.items() if profile in service.get("profiles", [profile])
    }
    environment = services["gateway"]["environment"]
    assert environment["GATEWAY_DATABASE_URL"].startswith(f"postgresql://gateway:{'a' * 48}@")
    assert environment["GATEWAY_FILES_URL"] == "/files"
    assert json.loads(environment["GATEWAY_PREVIEWS"])


@composes
def test_compose_takes_the_documented_model_of_ones_own_with_all_restrictions(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "deploy" / "system.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(services:.*?)```", page, re.DOTALL)
    (copied(tmp_path) / "compose.override.yaml").write_text(example)
    (tmp_path / ".env").write_text("GATEWAY_FILES_URL=s3://bucket\n")
    services = read_by_compose(tmp_path, "small")
    server, worker = services["upscaler"], services["upscaler-worker"]
    assert server["networks"].keys() == {"upscaler"}
    assert "environment" not in server
    assert "profiles" not in server
    for name in ("read_only", "cap_drop", "security_opt", "user", "mem_limit", "pids_limit", "tmpfs"):
        assert server[name] == services["riffusion-small"][name]
    assert worker["networks"].keys() == {"database", "outside", "upscaler"}
    assert worker["depends_on"].keys() == {"postgres", "upscaler"}
    assert worker["environment"] == services["riffusion-worker"]["environment"]
    assert worker["environment"]["GATEWAY_FILES_URL"] == "s3://bucket"


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
