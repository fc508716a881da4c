"""The other files of cluster/: `ray up` for AWS, the image, the MLflow server, and every script."""

from __future__ import annotations

import ast
import configparser
import json
import re
from pathlib import Path
from typing import Any

import pytest
from botocore.session import Session
from botocore.validate import ParamValidator

from tests.cluster.repository import CLUSTER, ROOT, image, is_read_by, lint, load, pinned

SCRIPTS = sorted([*CLUSTER.rglob("*.sh"), *CLUSTER.rglob("*.sbatch"), ROOT / ".ci/run"])
COMPOSE = load(CLUSTER / "mlflow/compose.yaml")
SERVICES: dict[str, Any] = COMPOSE["services"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck(script: Any) -> None:
    assert not lint("shellcheck", script)


@pytest.mark.parametrize("name", ["docker", "mlflow"])
def test_hadolint(name: str) -> None:
    assert not lint("hadolint", CLUSTER / name / "Dockerfile")


def test_image_gets_only_what_exists_and_is_let_in() -> None:
    text = (CLUSTER / "docker/Dockerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for word in line.split()]
    let_in = re.findall(r"^!(\S+)$", (CLUSTER / "docker/Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE)[-1] == "1000"


def test_ray_up_is_valid_against_rays_schema() -> None:
    import ray.autoscaler
    from ray.autoscaler._private.util import fillout_defaults, validate_config

    config = load(CLUSTER / "ray-up/aws.yaml")
    validate_config(fillout_defaults(config))
    # The schema lets any key of the provider pass.
    schema = json.loads((Path(ray.autoscaler.__path__[0]) / "ray-schema.json").read_text())
    assert set(config["provider"]) <= set(schema["properties"]["provider"]["properties"])


def test_ray_up_nodes_are_what_ec2_can_start() -> None:
    config = load(CLUSTER / "ray-up/aws.yaml")
    request = Session().get_service_model("ec2").operation_model("RunInstances").input_shape
    for name, node in config["available_node_types"].items():
        asked = {"MinCount": 1, "MaxCount": 1, **node["node_config"]}
        # Ray takes one of them for each instance.
        asked["SubnetId"] = asked.pop("SubnetIds")[0]
        report = ParamValidator().validate(asked, request)
        assert not report.has_errors(), f"{name}: {report.generate_report()}"
        assert asked["MetadataOptions"] == {"HttpTokens": "required"}
        assert all(disk["Ebs"]["Encrypted"] for disk in asked["BlockDeviceMappings"])
    assert config["head_node_type"] in config["available_node_types"]
    assert config["max_workers"] == sum(node.get("max_workers", 0) for node in config["available_node_types"].values())


def test_ray_up_is_locked() -> None:
    config = load(CLUSTER / "ray-up/aws.yaml")
    assert config["docker"]["image"] == image()
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    assert any("--dashboard-host=127.0.0.1" in command for command in config["head_start_ray_commands"])
    assert config["head_setup_commands"][0].endswith(f"boto3=={pinned('boto3')}")
    readme = (CLUSTER / "ray-up/README.md").read_text()
    for variable in re.findall(r"--env (\w+)", str(config["docker"]["run_options"])):
        assert variable in readme
        assert is_read_by(variable, "ray"), variable


def test_compose_leads_nowhere_wrong() -> None:
    mounted = [mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])]
    assert {name for name in mounted if not name.startswith("./")} == set(COMPOSE["volumes"])
    assert all((CLUSTER / "mlflow" / name).is_file() for name in mounted if name.startswith("./"))
    for service in SERVICES.values():
        for name, needs in service.get("depends_on", {}).items():
            assert ("healthcheck" in SERVICES[name]) == (needs["condition"] == "service_healthy")
        assert service.get("build") == "." or re.fullmatch(r"[a-z]+(/[a-z]+)?:\d\S*", service["image"])


def test_compose_takes_every_secret_from_the_environment_file_that_the_readme_makes() -> None:
    text = (CLUSTER / "mlflow/compose.yaml").read_text()
    readme = (CLUSTER / "mlflow/README.md").read_text()
    needed = set(re.findall(r"\$\{(\w+):\?\}", text))
    assert needed == set(re.findall(r"^    (\w+)=(?:\$\(secret\)|crlft)$", readme, re.MULTILINE))
    assert all(f"`{name}`" in readme for name in needed | set(re.findall(r"\$\{(\w+):-", text)))
    for service in SERVICES.values():
        for name, value in service["environment"].items():
            if re.search("PASSWORD|SECRET|KEY", name):
                assert re.fullmatch(r"\$\{\w+:\?\}", value), name


def test_mlflow_is_locked_and_of_the_tested_version() -> None:
    server = SERVICES["mlflow"]
    assert "--app-name basic-auth" in server["command"]
    assert [list(service.get("ports", [])) for service in SERVICES.values()] == [
        ["${LISTEN:-127.0.0.1}:5000:5000"],
        [],
        [],
        [],
    ]
    for name in server["environment"]:
        assert name == "PGPASSWORD" or is_read_by(name, "mlflow", "botocore"), name
    auth = configparser.ConfigParser()
    auth.read(CLUSTER / "mlflow/auth.ini")
    assert auth["mlflow"]["database_uri"] in server["command"]
    dockerfile = (CLUSTER / "mlflow/Dockerfile").read_text()
    for package, name in {"mlflow": "mlflow[auth]", "boto3": "boto3"}.items():
        assert f"{name}=={pinned(package)}" in dockerfile
    ast.parse(SERVICES["bucket"]["entrypoint"][2])


def test_every_folder_says_how_it_is_used() -> None:
    listed = re.findall(r"^\| \[(\S+)\]\(\1\)", (CLUSTER / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in CLUSTER.iterdir() if path.is_dir())
    assert all((CLUSTER / name / "README.md").is_file() for name in listed)


def test_only_scripts_are_executable() -> None:
    executable = [path.name for path in CLUSTER.rglob("*") if path.is_file() and path.stat().st_mode & 0o111]
    assert executable == ["start.sh"]
