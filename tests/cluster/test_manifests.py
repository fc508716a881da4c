"""The KubeRay manifests: valid, locked, and nothing in them that leads nowhere."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from crlft_ray import load_config
from tests.cluster.repository import CLUSTER, ROOT, image, is_read_by, load, pinned

FOLDER = CLUSTER / "kuberay"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [document for path in sorted(FOLDER.glob("*.yaml")) for document in yaml.safe_load_all(path.read_text())]
RAY_LABEL = {"ray.io/is-ray-node": "yes"}
"""What the operator puts on every pod of Ray."""


def of_kind(kind: str) -> list[dict[str, Any]]:
    found = [document for document in DOCUMENTS if document["kind"] == kind]
    assert found, kind
    return found


def cluster_specs() -> list[dict[str, Any]]:
    return [document["spec"] for document in of_kind("RayCluster")] + [
        document["spec"]["rayClusterSpec"] for document in of_kind("RayJob")
    ]


def ray_pods() -> list[dict[str, Any]]:
    groups = [[spec["headGroupSpec"], *spec["workerGroupSpecs"]] for spec in cluster_specs()]
    return [group["template"]["spec"] for spec in groups for group in spec]


def all_pods() -> list[dict[str, Any]]:
    return ray_pods() + [document["spec"]["template"]["spec"] for document in of_kind("StatefulSet")]


def containers() -> list[dict[str, Any]]:
    return [container for pod in all_pods() for container in pod["containers"]]


def nodes(tree: Any, key: str) -> Iterator[Any]:
    """Every value that stands under `key`, anywhere."""
    for name, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        if name == key:
            yield value
        yield from nodes(value, key)


def strict(schema: Any) -> Any:
    """Kubernetes drops keys that a schema does not name, without a word; here they are errors."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if isinstance(closed.get("properties"), dict) and "x-kubernetes-preserve-unknown-fields" not in closed:
        closed.setdefault("additionalProperties", False)
    return closed


def crd(kind: str) -> Any:
    """What a resource of this kind may hold."""
    return strict(json.loads((Path(__file__).parent / f"schemas/{kind.lower()}.json").read_text()))


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_valid_against_kuberays_schema(kind: str) -> None:
    for document in of_kind(kind):
        jsonschema.Draft202012Validator(crd(kind)).validate(document)


def test_pod_of_redis_is_a_valid_pod() -> None:
    template = crd("RayCluster")["properties"]["spec"]["properties"]["headGroupSpec"]["properties"]["template"]
    for document in of_kind("StatefulSet"):
        pod = document["spec"]["template"]
        jsonschema.Draft202012Validator(template).validate({"spec": pod["spec"]})
        assert document["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]


def test_a_key_that_kubernetes_would_drop_is_noticed() -> None:
    document = json.loads(json.dumps(of_kind("RayCluster")[0]))
    document["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["resourcs"] = {}
    with pytest.raises(jsonschema.ValidationError, match="resourcs"):
        jsonschema.Draft202012Validator(crd("RayCluster")).validate(document)


def test_volumes() -> None:
    claimed = {
        claim["metadata"]["name"] for spec in nodes(of_kind("StatefulSet"), "volumeClaimTemplates") for claim in spec
    }
    for pod in all_pods():
        volumes = {volume["name"] for volume in pod.get("volumes", [])} or claimed
        assert {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]} == volumes
    used = {claim["claimName"] for claim in nodes(DOCUMENTS, "persistentVolumeClaim")}
    assert used == {document["metadata"]["name"] for document in of_kind("PersistentVolumeClaim")}


def test_secrets_are_those_that_the_readme_makes() -> None:
    used = {(reference["name"], reference["key"]) for reference in nodes(DOCUMENTS, "secretKeyRef")}
    # The key that the operator looks for.
    used |= {(options["secretName"], "auth_token") for options in nodes(DOCUMENTS, "authOptions")}
    made = {
        (name, key)
        for name, options in re.findall(r"create secret generic (\S+) (.*)", README)
        for key in re.findall(r"--from-(?:literal|file)=(\w+)=", options)
    }
    assert used == made


def test_environment_is_read_and_explained() -> None:
    for container in containers():
        for name in (entry["name"] for entry in container["env"]):
            in_command = any(f"${name}" in word for word in container.get("command", []))
            assert in_command or is_read_by(name, "ray", "mlflow", "huggingface_hub"), name
            assert f"`{name}`" in README, name


def test_ports_and_selectors_meet() -> None:
    labels = [document["spec"]["template"]["metadata"]["labels"] for document in of_kind("StatefulSet")]
    pods = {
        json.dumps(label): document["spec"]["template"]["spec"]
        for label, document in zip(labels, of_kind("StatefulSet"), strict=True)
    }

    def ports(selector: dict[str, str]) -> list[dict[str, Any]]:
        selected = ray_pods() if selector == RAY_LABEL else [pods[json.dumps(selector)]]
        return [port for pod in selected for container in pod["containers"] for port in container.get("ports", [])]

    services = {}
    for service in of_kind("Service"):
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in [given["name"] for given in ports(service["spec"]["selector"])]
            services[f"{service['metadata']['name']}:{port['port']}"] = service
    assert set(nodes(DOCUMENTS, "redisAddress")) == set(services)
    assert {name["spec"]["serviceName"] for name in of_kind("StatefulSet")} <= {
        s["metadata"]["name"] for s in of_kind("Service")
    }
    for policy in of_kind("NetworkPolicy"):
        given = {port["containerPort"] for port in ports(policy["spec"]["podSelector"]["matchLabels"])}
        assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule.get("ports", [])} <= given
    for container in containers():
        names = [port["name"] for port in container.get("ports", [])]
        assert [probe["port"] for probe in nodes(container, "tcpSocket")] == names[: "readinessProbe" in container]
        assert all(f"{port['containerPort']}" in README for port in container.get("ports", []))


def test_nothing_runs_as_root() -> None:
    for pod in all_pods():
        context = pod["securityContext"]
        assert context["runAsNonRoot"]
        assert context["runAsUser"] >= 999
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    autoscalers = list(nodes(DOCUMENTS, "autoscalerOptions"))
    for container in [*containers(), *autoscalers]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    with_access = [pod for pod in all_pods() if pod.get("automountServiceAccountToken") is not False]
    assert with_access == [
        spec["headGroupSpec"]["template"]["spec"] for spec in cluster_specs() if spec.get("enableInTreeAutoscaling")
    ]


def test_every_cluster_asks_for_a_token() -> None:
    assert [spec["authOptions"]["mode"] for spec in cluster_specs()] == ["token"] * len(cluster_specs())


def test_resources_are_what_ray_believes_it_has() -> None:
    for container in containers():
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert {"cpu", "memory"} <= set(requests)
        assert limits.items() <= requests.items()
    for pod in ray_pods():
        assert all(
            container["resources"]["requests"] == container["resources"]["limits"] for container in pod["containers"]
        )


def test_images_and_versions_are_those_of_the_repository() -> None:
    ours = {container["image"] for pod in ray_pods() for container in pod["containers"]}
    assert ours == {image()}
    assert all(re.fullmatch(r"[a-z-]+(/[a-z-]+)?:\d\S*", container["image"]) for container in containers())
    assert {spec["rayVersion"] for spec in cluster_specs()} == {pinned("ray")}
    assert f"ARG BASE=rayproject/ray:{pinned('ray')}-py311" in (CLUSTER / "docker/Dockerfile").read_text()


def test_the_job_runs_a_script_of_the_image_and_its_cluster_is_large_enough() -> None:
    for job in of_kind("RayJob"):
        shell, flag, line = shlex.split(job["spec"]["entrypoint"])
        python, script, path, *_ = line.split()
        assert (shell, flag, python) == ("sh", "-c", "python")
        assert (ROOT / script.removeprefix("/app/")).is_file()
        config = load_config(ROOT / path.removeprefix("/app/"))
        train = next(
            group for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"] if group["groupName"] == "train"
        )
        limits = train["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert train["minReplicas"] * limits["nvidia.com/gpu"] == config.train.least_workers
        assert int(limits["cpu"]) >= limits["nvidia.com/gpu"] * config.train.threads_per_worker


@pytest.mark.parametrize(("code", "ends"), [(0, 0), (1, 1), (2, 0), (3, 0), (75, 75)])
def test_no_new_cluster_for_what_it_cannot_mend(code: int, ends: int, tmp_path: Path) -> None:
    (tmp_path / "python").write_text(f"#!/bin/sh\nexit {code}\n")
    (tmp_path / "python").chmod(0o755)
    (job,) = of_kind("RayJob")
    command = shlex.split(job["spec"]["entrypoint"])
    path = f"{tmp_path}:{os.environ['PATH']}"
    assert subprocess.run(command, env=os.environ | {"PATH": path}, check=False).returncode == ends


def test_the_readme_applies_every_file() -> None:
    applied = {Path(name).name for name in re.findall(r"-f (\S+\.yaml)", README)}
    assert applied == {path.name for path in FOLDER.glob("*.yaml")}
    assert all(load(FOLDER / name) for name in ("raycluster.yaml", "rayjob.yaml", "storage.yaml"))
