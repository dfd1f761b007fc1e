"""The cluster files say what they should: Ray's own validation, closed schemas for the rest, the rules of safety."""

from __future__ import annotations

import copy
import ipaddress
import re
import string
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from app.recipe import load
from tests.cluster.cluster_schemas import (
    AWS_PROVIDER,
    EC2_NODE,
    INSTANCES,
    PODS_AND_GIB,
    RAY_CLUSTER,
    RAY_JOB,
    SKY_TASK,
)

ROOT = Path(__file__).parents[2]
DIGEST = "sha256:" + "0f" * 32
NAMES = {
    "CPU_IMAGE": f"images.example/eightfold-cpu@{DIGEST}",
    "GPU_IMAGE": f"images.example/eightfold-gpu@{DIGEST}",
    "AMI": "ami-0123456789abcdef0",
    "SUBNET": "subnet-0123456789abcdef0",
    "SUBNET_B": "subnet-0123456789abcdef1",
    "SUBNET_C": "subnet-0123456789abcdef2",
    "SECURITY_GROUP": "sg-0123456789abcdef0",
    "SHARED_DISK": "fs-0123456789abcdef0.efs.us-west-2.amazonaws.com",
    "REDIS": "redis.default.svc:6379",
    "RECIPE": "demo",
}
FILES = ["cluster.yaml", "kuberay/raycluster.yaml", "kuberay/rayjob.yaml"]
ROLES = {"head", "sampler", "trainer", "verifier"}


def filled(name: str) -> Any:
    """A cluster file with its ${NAMES} filled in, as `envsubst` does with a list of names."""
    text = (ROOT / name).read_text()
    used = set(re.findall(r"\$\{(\w+)\}", text))
    assert used <= NAMES.keys(), f"{name}: names that docs/cluster.md does not know: {used - NAMES.keys()}"
    return yaml.safe_load(re.sub(r"\$\{(\w+)\}", lambda match: NAMES[match[1]], text))


def node_types() -> dict[str, Any]:
    return filled("cluster.yaml")["available_node_types"]


def prepared() -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config

    return prepare_config(filled("cluster.yaml"))


def cluster_specs() -> list[dict[str, Any]]:
    return [filled("kuberay/raycluster.yaml")["spec"], filled("kuberay/rayjob.yaml")["spec"]["rayClusterSpec"]]


# -- cluster.yaml -----------------------------------------------------------------------------------------------------


def test_ray_accepts_cluster_yaml() -> None:
    from ray.autoscaler._private.util import validate_config

    validate_config(prepared())


def test_ray_accepts_the_unfilled_file_too() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(yaml.safe_load((ROOT / "cluster.yaml").read_text())))


@pytest.mark.parametrize("key", ["max_worker", "docker_image", "head_start_commands"])
def test_rays_validation_is_not_asleep(key: str) -> None:
    from ray.autoscaler._private.util import validate_config

    with pytest.raises(jsonschema.ValidationError, match=key):
        validate_config({**prepared(), key: 1})


def test_provider_has_only_known_keys() -> None:
    jsonschema.validate(filled("cluster.yaml")["provider"], AWS_PROVIDER)


@pytest.mark.parametrize("name", sorted(ROLES))
def test_node_config_has_only_known_keys(name: str) -> None:
    jsonschema.validate(node_types()[name]["node_config"], EC2_NODE)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["InstanceTyp"], "m7i.2xlarge"),
        (["SubnetIds"], []),
        (["InstanceMarketOptions"], {"MarketType": "spott"}),
        (["MetadataOptions", "HttpToken"], "required"),
        (["BlockDeviceMappings", 0, "Ebs", "VolumeSize"], "200"),
    ],
)
def test_typos_that_ray_lets_through_are_found(path: list[Any], value: Any) -> None:
    """Ray takes each of these files; the node would fail, or stand open, hours later."""
    from ray.autoscaler._private.util import validate_config

    config = copy.deepcopy(prepared())
    node = config["available_node_types"]["sampler"]["node_config"]
    target = node
    for part in path[:-1]:
        target = target[part]
    target[path[-1]] = value
    validate_config(config)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(node, EC2_NODE)


@pytest.mark.parametrize("typo", [{"use_internal_ip": True}, {"regions": "us-west-2"}, {"cache_stopped_node": False}])
def test_typos_in_the_provider_that_ray_lets_through_are_found(typo: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import validate_config

    config = copy.deepcopy(prepared())
    config["provider"] |= typo
    validate_config(config)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config["provider"], AWS_PROVIDER)


FREE = {
    "labels",
    "resources",
    "file_mounts",
    "available_node_types",
    "nodeSelector",
    "rayStartParams",
    "requests",
    "limits",
}


def keys(value: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every key whose name the reader of the file decides, not its writer."""
    found: list[tuple[Any, ...]] = []
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        if isinstance(value, dict) and not (where and where[-1] in FREE):
            found.append((*where, key))
        found += keys(child, (*where, key))
    return found


def with_typo(value: Any, path: tuple[Any, ...]) -> Any:
    """A copy whose key at `path` has one letter too many."""
    value = copy.deepcopy(value)
    parent = value
    for part in path[:-1]:
        parent = parent[part]
    parent[f"{path[-1]}x"] = parent.pop(path[-1])
    return value


def check_aws(config: dict[str, Any]) -> None:
    """All that is checked of a filled cluster.yaml."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config))
    jsonschema.validate(config["provider"], AWS_PROVIDER)
    for node in config["available_node_types"].values():
        jsonschema.validate(node["node_config"], EC2_NODE)


CHECKS = {
    "cluster.yaml": check_aws,
    "kuberay/raycluster.yaml": jsonschema.Draft202012Validator(RAY_CLUSTER).validate,
    "kuberay/rayjob.yaml": jsonschema.Draft202012Validator(RAY_JOB).validate,
}


@pytest.mark.parametrize("name", FILES)
def test_a_typo_in_any_key_is_found(name: str) -> None:
    config = filled(name)
    CHECKS[name](copy.deepcopy(config))
    paths = keys(config)
    assert len(paths) > 60
    missed = []
    for path in paths:
        try:
            CHECKS[name](with_typo(config, path))
        except Exception:
            continue
        missed.append(path)
    assert missed == []


def test_resources_are_those_of_the_machines() -> None:
    for name, node in node_types().items():
        cpus, gpus = INSTANCES[node["node_config"]["InstanceType"]]
        expected = {"CPU": 0} if name == "head" else {"CPU": cpus} | ({"GPU": gpus} if gpus else {})
        assert node["resources"] == expected, name


def test_roles_markets_and_idle_times() -> None:
    config = filled("cluster.yaml")
    types = config["available_node_types"]
    assert set(types) == ROLES and config["head_node_type"] == "head"
    for name, node in types.items():
        spot = node["node_config"].get("InstanceMarketOptions", {}).get("MarketType") == "spot"
        assert node["labels"] == {"role": name, "market": "spot" if spot else "on-demand"}
        assert spot == (name in ("sampler", "verifier"))
        if name != "head":
            assert node["min_workers"] == 0 and 0 < node["idle_timeout_s"] <= 300
    assert config["max_workers"] == sum(node.get("max_workers", 0) for node in types.values())


def test_gpu_nodes_run_the_gpu_image_and_images_are_pinned() -> None:
    config = filled("cluster.yaml")
    for name, node in config["available_node_types"].items():
        image = node.get("docker", {}).get("worker_image", config["docker"]["image"])
        assert image == NAMES["GPU_IMAGE" if name in ("sampler", "trainer") else "CPU_IMAGE"], name
        assert re.search(r"@sha256:[0-9a-f]{64}$", image)


def test_spot_nodes_have_a_choice_of_zones_and_trainers_stand_together() -> None:
    for name, node in node_types().items():
        zones, group = node["node_config"]["SubnetIds"], node["node_config"].get("Placement")
        assert len(set(zones)) == (3 if name in ("sampler", "verifier") else 1), name
        assert group == ({"GroupName": "eightfold-trainers"} if name == "trainer" else None), name


def test_weights_lie_on_the_machines_own_disk() -> None:
    config = filled("cluster.yaml")
    (cache,) = [o for o in config["docker"]["run_options"] if o.endswith(":/mnt/cache")]
    folder = cache.removeprefix("-v ").removesuffix(":/mnt/cache")
    assert any(f"-o 1000 -g 1000 {folder}" in command for command in config["initialization_commands"])
    for spec in cluster_specs():
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            (container,) = group["template"]["spec"]["containers"]
            assert {"HF_HOME", "EIGHTFOLD_CACHE"} == {v["name"] for v in container["env"]}
            assert all(v["value"].startswith("/mnt/cache/") for v in container["env"])
            assert {"name": "cache", "mountPath": "/mnt/cache"} in container["volumeMounts"]


def test_workers_choose_their_own_number_of_threads() -> None:
    """Ray's launcher exports OMP_NUM_THREADS=1 before every command; an actor inherits it from `ray start`."""
    from ray.autoscaler._private.command_runner import _with_interactive

    assert "OMP_NUM_THREADS=1" in " ".join(_with_interactive("true"))
    (start,) = [c for c in filled("cluster.yaml")["worker_start_ray_commands"] if "ray start" in c]
    assert "unset OMP_NUM_THREADS" in start.partition("ray start")[0]


def test_only_named_ranges_reach_ssh() -> None:
    """Ray adds SSH from everywhere to each group it makes, so every node must name a group of the user's."""
    from ray.autoscaler._private.util import prepare_config

    for node in prepare_config(filled("cluster.yaml"))["available_node_types"].values():
        assert node["node_config"]["SecurityGroupIds"] == [NAMES["SECURITY_GROUP"]]
    assert "security_group" not in filled("cluster.yaml")["provider"]
    rules = [x for x in (ROOT / "docs/cluster.md").read_text().splitlines() if "authorize-security-group-ingress" in x]
    assert [("--source-group" in rule, "--port 22 " in rule) for rule in rules] == [(True, False), (False, True)]
    (cidr,) = re.findall(r"--cidr (\S+)", rules[1])
    assert ipaddress.ip_network(cidr).prefixlen >= 16


def test_private_addresses_and_loopback_dashboard() -> None:
    config = filled("cluster.yaml")
    assert config["provider"]["use_internal_ips"] is True
    (start,) = [c for c in config["head_start_ray_commands"] if "ray start" in c]
    assert "--dashboard-host=127.0.0.1" in start.split()
    assert "0.0.0.0" not in (ROOT / "cluster.yaml").read_text()


@pytest.mark.parametrize("side", ["head", "worker"])
def test_ray_starts_with_the_token(side: str) -> None:
    config = filled("cluster.yaml")
    (start,) = [c for c in config[f"{side}_start_ray_commands"] if "ray start" in c]
    before, _, _ = start.partition("ray start")
    assert "export RAY_AUTH_MODE=token" in before
    assert "chmod 600 ~/.ray/auth_token" in before
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "-e RAY_AUTH_MODE=token" in config["docker"]["run_options"]


def test_each_worker_starts_one_spot_watcher_that_the_image_has() -> None:
    (watch,) = [c for c in filled("cluster.yaml")["worker_start_ray_commands"] if "spot_watch" in c]
    script = re.search(r"python (/opt/eightfold/\S+)", watch)
    assert script and (ROOT / script[1].removeprefix("/opt/eightfold/")).is_file()
    assert "flock -n" in watch and watch.rstrip().endswith("&")


# -- kuberay/ ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "schema"), [("kuberay/raycluster.yaml", RAY_CLUSTER), ("kuberay/rayjob.yaml", RAY_JOB)]
)
def test_kuberay_files_have_only_known_keys(name: str, schema: dict[str, Any]) -> None:
    jsonschema.validate(filled(name), schema)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["enableInTreeAutoscalling"], True),
        (["authOptions", "mode"], "tokens"),
        (["workerGroupSpecs", 0, "minReplica"], 0),
        (["headGroupSpec", "template", "spec", "containers", 0, "images"], "x"),
        (["workerGroupSpecs", 0, "rayStartParams"], {"num-cpus": 4}),
    ],
)
def test_typos_in_kuberay_files_are_found(path: list[Any], value: Any) -> None:
    cluster = filled("kuberay/raycluster.yaml")
    target = cluster["spec"]
    for part in path[:-1]:
        target = target[part]
    target[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(cluster, RAY_CLUSTER)


def test_the_job_runs_on_the_same_cluster() -> None:
    cluster, job = cluster_specs()
    assert cluster == job


def test_kuberay_autoscales_asks_for_a_token_and_survives_the_head() -> None:
    import ray

    spec = cluster_specs()[0]
    assert spec["enableInTreeAutoscaling"] is True and spec["autoscalerOptions"]["version"] == "v2"
    assert spec["authOptions"] == {"mode": "token"}
    assert set(spec["gcsFaultToleranceOptions"]["redisPassword"]) == {"valueFrom"}
    assert spec["rayVersion"] == ray.__version__
    assert spec["headGroupSpec"]["resources"] == {"CPU": "0"}
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"


def test_kuberay_groups_match_cluster_yaml() -> None:
    groups = {group["groupName"]: group for group in cluster_specs()[0]["workerGroupSpecs"]}
    assert groups.keys() == ROLES - {"head"}
    for name, group in groups.items():
        aws = node_types()[name]
        assert (group["labels"], group["maxReplicas"]) == (aws["labels"], aws["max_workers"])
        (container,) = group["template"]["spec"]["containers"]
        limits = container["resources"]["limits"]
        assert container["resources"]["requests"] == limits  # guaranteed: never the first to be evicted
        assert group["resources"]["CPU"] == limits["cpu"]
        assert group["resources"].get("GPU") == limits.get("nvidia.com/gpu")
        assert container["image"] == NAMES["CPU_IMAGE" if name == "verifier" else "GPU_IMAGE"]


def left_for_pods(machine: str) -> tuple[float, float]:
    """CPUs and GiB that EKS leaves to pods: less what it keeps for kubelet and system, and a CPU's tenth for daemons.

    CPU: 6 % of the first, 1 % of the second, 0.5 % of the third and fourth, 0.25 % of the others. Memory: 255 MiB and
    11 MiB a pod that may run there, 100 MiB before eviction; the machine's kernel takes about 4 % of what is sold.
    """
    cpus, _ = INSTANCES[machine]
    pods, gib = PODS_AND_GIB[machine]
    kept = 0.06 + 0.01 + 0.005 * 2 + 0.0025 * (cpus - 4)
    return cpus - kept - 0.1, gib * 0.96 - (255 + 11 * pods + 100) / 1024


def test_every_pod_fits_the_machine_it_is_for() -> None:
    for group in cluster_specs()[0]["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        asked = container["resources"]["requests"]
        cpus, gib = left_for_pods(node_types()[group["groupName"]]["node_config"]["InstanceType"])
        assert float(asked["cpu"]) <= cpus, group["groupName"]
        assert float(asked["memory"].removesuffix("Gi")) <= gib, group["groupName"]


def test_pods_drain_within_their_grace_time() -> None:
    for group in cluster_specs()[0]["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        command = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        assert "--now" in command and command[1] == "/opt/eightfold/jobs/spot_watch.py"
        assert float(command[command.index("--grace") + 1]) < pod["terminationGracePeriodSeconds"]
        assert pod["restartPolicy"] == "Never"  # the autoscaler counts a restarted pod as another node


def test_a_failed_job_is_tried_again_on_shared_storage() -> None:
    job = filled("kuberay/rayjob.yaml")["spec"]
    assert job["backoffLimit"] >= 1 and job["shutdownAfterJobFinishes"] is True
    assert "--runs /mnt/runs" in job["entrypoint"]
    for spec in [job["rayClusterSpec"]["headGroupSpec"], *job["rayClusterSpec"]["workerGroupSpecs"]]:
        mounts = spec["template"]["spec"]["containers"][0]["volumeMounts"]
        assert {"name": "runs", "mountPath": "/mnt/runs"} in mounts
    environment = yaml.safe_load(job["runtimeEnvYAML"])
    assert environment.keys() <= {"env_vars", "working_dir", "excludes"}
    assert all(isinstance(value, str) for value in environment["env_vars"].values())


# -- skypilot.yaml ----------------------------------------------------------------------------------------------------


def test_skypilot_takes_the_file_and_no_typo_in_it() -> None:
    task = yaml.safe_load((ROOT / "skypilot.yaml").read_text())
    jsonschema.validate(task, SKY_TASK)
    paths = [path for path in keys(task) if path[0] not in ("envs", "secrets")]
    for path in [*paths, ("resources", "any_of"), ("resources", "disk_size")]:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(with_typo(task, path), SKY_TASK)


def test_skypilots_scripts_are_shell_and_start_a_job_that_fits_one_machine(tmp_path: Path) -> None:
    """Run by bash with a `python` that says how it was called."""
    task = yaml.safe_load((ROOT / "skypilot.yaml").read_text())
    python = tmp_path / "eightfold-env/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s\\n" "${RAY_ADDRESS-none}" "$@"\n')
    python.chmod(0o755)
    subprocess.run(["bash", "-n", "-c", task["setup"]], check=True)
    variables = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "RECIPE": "math_qwen", "RUNS": "s3://b/runs"}
    done = subprocess.run(
        ["bash", "-c", task["run"]], env=variables | {"RAY_ADDRESS": "x"}, capture_output=True, text=True, check=True
    )
    ray_address, *command = done.stdout.split()
    assert ray_address == "none" and command[:5] == ["-m", "jobs.run", "math_qwen", "--runs", "s3://b/runs"]
    recipe = load(str(ROOT / "jobs/recipes/gsm8k_deepseek7b.yaml"), [word for word in command[5:] if word != "--set"])
    place = recipe.placement
    assert [place.sampling.labels, place.verification.labels, place.training.labels] == [{}, {}, {}]
    for option in task["resources"]["any_of"]:
        assert int(option["accelerators"].rpartition(":")[2]) >= place.sampling.actors * place.sampling.gpus


# -- docker/ and all of them ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_dockerfiles_take_a_pinned_base_and_run_without_root(name: str) -> None:
    text = (ROOT / f"docker/Dockerfile.{name}").read_text()
    lines = text.splitlines()
    assert "ARG BASE" in lines and "FROM ${BASE}" in lines  # no default on purpose
    assert "USER ray" in lines and "--uid 1000" in text
    for source in re.findall(r"^COPY --chown=ray (\S+) ", text, re.MULTILINE):
        assert (ROOT / source).exists(), source


def test_keys_reach_every_container_as_variables() -> None:
    """Docker reads the file on the host, where Ray puts what it is to mount."""
    from ray.autoscaler.sdk import get_docker_host_mount_location

    config = filled("cluster.yaml")
    (option,) = [option for option in config["docker"]["run_options"] if "--env-file" in option]
    (mount,) = [target for target, source in config["file_mounts"].items() if source == "~/.eightfold.env"]
    assert option == f"--env-file {get_docker_host_mount_location(config['cluster_name'])}{mount}"
    for spec in cluster_specs():
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            (container,) = group["template"]["spec"]["containers"]
            assert container["envFrom"] == [{"secretRef": {"name": "eightfold-env", "optional": True}}]


def test_recipes_for_a_cluster_ask_no_server_that_is_not_there() -> None:
    for path in (ROOT / "jobs/recipes").glob("*.yaml"):
        assert not re.search(r"base_url.*(localhost|127\.0\.0\.1)", path.read_text()), path.name


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_the_token_lands_where_the_start_command_looks_for_it(name: str) -> None:
    """Ray binds `~` of file_mounts under the HOME of the image's own environment, /root where that has none."""
    from ray.autoscaler._private.docker import docker_start_cmds

    text = (ROOT / f"docker/Dockerfile.{name}").read_text()
    (home,) = re.findall(r"^ENV .*?\bHOME=(\S+)", text, re.MULTILINE)
    assert "useradd --create-home --uid 1000 ray" in text and home == "/home/ray"  # what useradd makes
    mounts = filled("cluster.yaml")["file_mounts"]
    command = docker_start_cmds("ubuntu", "image", mounts, "eightfold", [], "eightfold", home, "docker")
    assert f":{home}/.ray/auth_token " in command


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_images_hold_what_the_clusters_call(name: str) -> None:
    """rsync and ssh: Ray's launcher; wget: KubeRay's probes; setsid, flock (util-linux): the spot watcher."""
    text = (ROOT / f"docker/Dockerfile.{name}").read_text()
    packages = set(re.findall(r"--no-install-recommends (.*?)\s*\\?$", text, re.MULTILINE)[0].split())
    assert {"rsync", "openssh-client", "wget", "util-linux", "procps"} <= packages


@pytest.mark.parametrize(
    "name", [*FILES, "skypilot.yaml", "docker/Dockerfile.cpu", "docker/Dockerfile.gpu", "docs/cluster.md"]
)
def test_files_hold_no_secret_and_no_dash_that_a_shell_misreads(name: str) -> None:
    text = (ROOT / name).read_text()
    odd = sorted(set(text) - set(string.printable))
    assert not odd, f"{name}: {odd}"
    assert not re.search(r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|\bRAY_AUTH_TOKEN=\S*\w", text)
