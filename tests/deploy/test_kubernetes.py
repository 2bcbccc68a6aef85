"""deploy/kubernetes holds to Kubernetes' own schemas, and to rules of our own for every pod."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import psycopg
import pytest
import yaml
from psycopg.rows import scalar_row

from gateway.catalog_files import CatalogFiles
from gateway.settings import unknown
from local.system import NAMES

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("small", "gpu")
VERSIONS = ("1.30", "1.37")  # the oldest that has what the manifests use, and the newest that is known
COMPONENT = "app.kubernetes.io/component"
# Their schemas are not Kubernetes' own; the rules below look at what matters in them.
FOREIGN = ("keda.sh/", "monitoring.coreos.com/", "kustomize.config.k8s.io/")
Document = dict[str, Any]

builds = pytest.mark.skipif(
    not (shutil.which("kustomize") or shutil.which("kubectl")), reason="neither kustomize nor kubectl is here"
)
each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def written() -> Iterator[tuple[str, Document]]:
    for path in sorted(FOLDER.rglob("*.yaml")):
        for number, document in enumerate(yaml.safe_load_all(path.read_text(encoding="utf-8"))):
            yield f"{path.relative_to(FOLDER)}:{number}", document


WRITTEN = dict(written())


@cache
def built(overlay: str) -> list[Document]:
    """Return the documents of an overlay, as kustomize makes them."""
    command = ["kustomize", "build"] if shutil.which("kustomize") else ["kubectl", "kustomize"]
    made = subprocess.run([*command, str(FOLDER / "overlays" / overlay)], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert made.stderr == ""  # kustomize warns of what it will not take for much longer
    return list(yaml.safe_load_all(made.stdout))


def of_kind(documents: list[Document], kind: str) -> dict[str, Document]:
    return {document["metadata"]["name"]: document for document in documents if document["kind"] == kind}


def templates(documents: list[Document]) -> dict[str, Document]:
    return {d["metadata"]["name"]: d["spec"]["template"] for d in documents if "template" in d.get("spec", {})}


def pods(documents: list[Document]) -> dict[str, Document]:
    return {name: template["spec"] for name, template in templates(documents).items()}


def containers(pod: Document) -> list[Document]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def validate(document: Document) -> None:
    for version in VERSIONS:
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("name", [n for n, d in WRITTEN.items() if not d["apiVersion"].startswith(FOREIGN)])
def test_each_document_is_valid_as_it_is_written(name: str) -> None:
    validate(WRITTEN[name])


@builds
@each_overlay
def test_each_overlay_is_valid_as_a_whole(overlay: str) -> None:
    documents = built(overlay)
    names = [(document["kind"], document["metadata"]["name"]) for document in documents]
    assert len(names) == len(set(names))
    for document in documents:
        if not document["apiVersion"].startswith(FOREIGN):
            validate(document)
        assert document["kind"] == "Namespace" or document["metadata"]["namespace"] == "gateway"
        assert document["kind"] != "Secret"  # they are made by hand, and in no file


@builds
@each_overlay
def test_no_pod_can_do_more_than_it_must(overlay: str) -> None:
    for name, pod in pods(built(overlay)).items():
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["enableServiceLinks"] is False, name  # else a Service sets GATEWAY_PORT
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert all("hostPath" not in volume for volume in pod["volumes"])
        for container in containers(pod):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert (context | pod["securityContext"]).get("runAsUser", 0) > 0
            assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]  # noqa: S108


@builds
@each_overlay
def test_every_container_has_limits_probes_and_time_to_end(overlay: str) -> None:
    for name, pod in pods(built(overlay)).items():
        assert pod["terminationGracePeriodSeconds"] > 30
        for container in containers(pod):
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"]["cpu"]
            assert name == "migration" or container["livenessProbe"]
            assert unknown({variable["name"]: "" for variable in container.get("env", [])}) == []


@builds
@each_overlay
def test_a_models_pod_ends_its_worker_before_its_cog_server(overlay: str) -> None:
    queues = {}
    for name, pod in pods(built(overlay)).items():
        if not name.endswith("-server"):
            continue
        # A container that is a sidecar by Kubernetes' word gets SIGTERM when the others have ended.
        (cog,), (worker,) = pod["initContainers"], pod["containers"]
        assert (cog["name"], cog["restartPolicy"], worker["name"]) == ("cog", "Always", "worker")
        assert cog["args"][-2:] == ["--host", "127.0.0.1"]
        assert cog["livenessProbe"]["exec"]["command"] == ["python", "-m", "lib.probe"]
        assert cog["livenessProbe"]["timeoutSeconds"] > 15  # lib.probe's own
        assert worker["livenessProbe"]["exec"]["command"] == ["python", "-m", "gateway.probe", "worker"]
        assert pod["terminationGracePeriodSeconds"] >= 600
        variables = {variable["name"]: variable.get("value") for variable in worker["env"]}
        assert variables["GATEWAY_ALIVE_FILE"] == "/tmp/alive"  # noqa: S108
        assert worker["args"][-2:] == ["--queue", "$(QUEUE)"]
        queues[name.removesuffix("-server")] = variables["QUEUE"]
        assert cog["image"].rpartition("/")[2].partition(":")[0] == name.removesuffix("-server")
        small = {"name": "WEIGHTS", "value": "small"} in cog.get("env", [])
        assert small != ("nvidia.com/gpu" in cog["resources"]["limits"])
    assert set(queues.values()) == {v.queue for v in CatalogFiles(ROOT / "gateway" / "catalog.json").load().versions()}
    assert queues == NAMES


@builds
@each_overlay
def test_selectors_find_the_pods_that_they_mean(overlay: str) -> None:
    documents = built(overlay)
    labels = [template["metadata"]["labels"] for template in templates(documents).values()]
    for deployment in of_kind(documents, "Deployment").values():
        selector = deployment["spec"]["selector"]["matchLabels"]
        assert sum(selector.items() <= pod.items() for pod in labels) == 1
    budget = of_kind(documents, "PodDisruptionBudget")["gateway"]["spec"]
    gateway = of_kind(documents, "Deployment")["gateway"]["spec"]
    assert budget["selector"]["matchLabels"] == gateway["selector"]["matchLabels"]
    assert gateway["replicas"] > budget["minAvailable"] >= 1
    (port,) = gateway["template"]["spec"]["containers"][0]["ports"]
    service = of_kind(documents, "Service")["gateway"]
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]


@builds
@each_overlay
def test_nobody_reaches_a_models_pod(overlay: str) -> None:
    policies = of_kind(built(overlay), "NetworkPolicy")
    assert policies["nothing"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    reached = {name for name, policy in policies.items() if policy["spec"].get("ingress")}
    assert reached == {"gateway", "preview"} | ({"database"} if overlay == "small" else set())
    model = policies["model"]["spec"]
    assert model["podSelector"] == {"matchLabels": {COMPONENT: "model"}}
    assert model["ingress"] == []
    ports = {port["port"] for rule in model["egress"] for port in rule["ports"]}
    assert ports == {53, 443, 5432}
    assert {port["port"] for rule in policies["gateway"]["spec"]["ingress"] for port in rule["ports"]} == {5000}
    components = {pod["metadata"]["labels"][COMPONENT] for pod in templates(built(overlay)).values()}
    assert components == {
        policy["spec"]["podSelector"].get("matchLabels", {}).get(COMPONENT) for policy in policies.values()
    } - {None}


@builds
def test_keda_scales_each_model_and_prometheus_finds_the_gateway() -> None:
    documents = built("gpu")
    scaled = {d["spec"]["scaleTargetRef"]["name"] for d in of_kind(documents, "ScaledObject").values()}
    deployments = of_kind(documents, "Deployment")
    assert scaled == {name for name in deployments if name.endswith("-server")}
    assert all("replicas" not in deployments[name]["spec"] for name in scaled)  # else each apply would undo KEDA's
    monitor = of_kind(documents, "ServiceMonitor")["gateway"]["spec"]
    service = of_kind(documents, "Service")["gateway"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    assert not {"ScaledObject", "ServiceMonitor"} & {document["kind"] for document in built("small")}


def test_the_queries_that_scale_count_what_waits_and_runs(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True, row_factory=scalar_row) as connection:
        connection.execute("insert into tokens (name, hash) values ('a', 'x')")
        for model, queue in NAMES.items():
            document = WRITTEN[f"autoscaling/{model}.yaml:0"]
            length, age = [trigger["metadata"] for trigger in document["spec"]["triggers"]]
            assert "--" not in length["query"] + age["query"]
            for query, expected in ((length["query"], 0), (age["query"], 0)):
                assert connection.execute(query).fetchone() == expected
            for number, (status, beat) in enumerate([("starting", None), ("processing", "now()"), ("failed", None)]):
                connection.execute(
                    f"""insert into predictions (id, owner, model, version, queue, base_url, input, status, job_id,
                                                 beat_at, created_at)
                        select %s, id, 'm', 'v', %s, '', '{{}}', %s, %s, {beat or "null"},
                               now() - interval '1 min' * %s from tokens""",  # noqa: S608
                    (f"{model}{number}", queue, status, number, 2 + number),
                )
            assert connection.execute(length["query"]).fetchone() == 2
            assert connection.execute(age["query"]).fetchone() == pytest.approx(120, abs=30)
            assert re.fullmatch(r"\d+", length["targetQueryValue"])
