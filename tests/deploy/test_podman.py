"""deploy/kubernetes/overlays/small, as podman plays it. There is no cluster in it, but the same pods and images.

Podman has no sidecars, so a model's Cog server becomes an ordinary container here. Nothing else is changed. riffusion
stands for all models, which differ in image and queue only. What podman doesn't know it ignores: network policies,
disruption budgets, service accounts, namespaces.
"""

import base64
import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
import yaml

from local.system import NAMES
from tests.deploy.test_kubernetes import builds, built
from tests.gateway.processes import ENDED

pytestmark = [pytest.mark.slow, builds]

TIMEOUT_S = 1200  # only for what hangs
PODMAN = shutil.which("podman") or "podman"
IMAGES = ("gateway", "postgres:18-bookworm", "riffusion", "deforum")  # deforum's for the preview
OTHERS = [f"{model}-server" for model in NAMES if model != "riffusion"]
CLIP = {"prompt_a": "church bells", "num_inference_steps": 10}
FRAMES = 100
T = TypeVar("T")
# Runs in the gateway's container: its network is not the host's.
CALL = """
import json, sys, urllib.request
token, path, *body = sys.argv[1:]
headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
request = urllib.request.Request(f"http://127.0.0.1:5000/v1{path}", body[0].encode() if body else None, headers)
print(urllib.request.urlopen(request).read().decode())
"""


def podman(*arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run([PODMAN, *arguments], input=stdin, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, f"podman {' '.join(arguments)}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def missing() -> str | None:
    """Return what is missing here to run these tests, as a sentence."""
    if shutil.which(PODMAN) is None:
        return "podman is not here"
    if int(podman("version", "-f", "{{.Version}}").split(".")[0]) < 5:
        return "podman is older than 5, which knows no Jobs"
    images = [image for image in IMAGES if subprocess.run([PODMAN, "image", "exists", image]).returncode]
    return f"podman has no images {', '.join(images)}: docs/deploy/system.md says how to build them" if images else None


def without_sidecars(document: dict[str, Any]) -> dict[str, Any]:
    pod = document["spec"]["template"]["spec"] if document["kind"] == "Deployment" else {}
    for sidecar in pod.pop("initContainers", []):
        assert sidecar.pop("restartPolicy") == "Always"
        pod["containers"].insert(0, sidecar)
    return document


def secret(password: str) -> dict[str, Any]:
    values = {"password": password, "url": f"postgresql://gateway:{password}@postgres/gateway"}
    data = {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "gateway-database"}, "data": data}


@pytest.fixture(scope="module")
def played() -> Iterator[list[dict[str, Any]]]:
    """Play the overlay, and give what was played."""
    if sentence := missing():
        pytest.skip(sentence)
    documents = [
        without_sidecars(document) for document in built("small") if document["metadata"]["name"] not in OTHERS
    ]
    text = yaml.safe_dump_all([secret(secrets.token_hex(24)), *documents])
    try:
        podman("kube", "play", "-", stdin=text)
        yield documents
    finally:
        podman("kube", "down", "--force", "-", stdin=text)
        podman("secret", "rm", "--ignore", "gateway-database")


def inside(container: str, *command: str) -> str | None:
    """Run a command in a container. Return its output, or None if it fails."""
    done = subprocess.run([PODMAN, "exec", container, *command], capture_output=True, text=True, timeout=TIMEOUT_S)
    return done.stdout if done.returncode == 0 else None


def call(token: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """Call the API. Return its answer, or None if it refuses."""
    given = [json.dumps(body)] if body else []
    answer = inside("gateway-pod-gateway", "python", "-c", CALL, token, path, *given)
    return None if answer is None else json.loads(answer)


def until(check: Callable[[], T | None]) -> T:
    give_up = time.monotonic() + TIMEOUT_S
    while not (result := check()):
        assert time.monotonic() < give_up
        time.sleep(1)
    return result


def test_a_clip_and_a_preview(played: list[dict[str, Any]]) -> None:
    until(lambda: inside("gateway-pod-gateway", "python", "-m", "gateway.probe") is not None)
    token = podman("exec", "gateway-pod-gateway", "python", "-m", "gateway.tokens", "create", "ann").split()[-1]
    path = "/models/deforum/deforum_stable_diffusion/preview"
    preview = until(lambda: call(token, path, {"input": {"max_frames": FRAMES}}))  # when its server listens
    assert len(preview["curves"]["zoom"]) == FRAMES

    created = call(token, "/models/riffusion/riffusion/predictions", {"input": CLIP})
    assert created

    def ended() -> dict[str, Any] | None:
        made = call(token, f"/predictions/{created['id']}")
        return made if made and made["status"] in ENDED else None

    assert until(ended)["status"] == "succeeded"


def test_every_liveness_probe_passes(played: list[dict[str, Any]]) -> None:
    """Podman runs them as health checks, and restarts what fails."""
    for document in played:
        if document["kind"] == "Deployment":
            name = document["metadata"]["name"]
            for container in document["spec"]["template"]["spec"]["containers"]:
                podman("exec", f"{name}-pod-{container['name']}", *container["livenessProbe"]["exec"]["command"])


def test_no_process_has_a_capability_or_writes_where_it_should_not(played: list[dict[str, Any]]) -> None:
    look = "import os; print(open('/proc/1/status').read().split('CapBnd:')[1].split()[0], os.access('/', os.W_OK))"
    for name in ("gateway-pod-gateway", "riffusion-server-pod-cog", "riffusion-server-pod-worker"):
        assert podman("exec", name, "python", "-c", look) == f"{0:016x} False"
