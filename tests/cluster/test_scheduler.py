"""Which nodes Ray's own scheduler (autoscaler version 2) would start for each stage of each recipe."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from ray.autoscaler._private.aws import node_provider
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingReply, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import ClusterResourceConstraint, GangResourceRequest, ResourceRequest
from ray.core.generated.common_pb2 import LabelSelectorOperator

from app.placement import ActorPlacement
from app.recipe import Recipe, load
from app.shardmap import Pool
from tests.cluster.cluster_schemas import INSTANCES, PODS_AND_GIB
from tests.cluster.test_files import filled

RECIPES = sorted(path.stem for path in (Path(__file__).parents[2] / "jobs/recipes").glob("*.yaml"))
LABELLED = {"gsm8k_deepseek7b", "math_qwen"}  # the recipes that are for a cluster
OPERATORS = (LabelSelectorOperator.LABEL_OPERATOR_IN, LabelSelectorOperator.LABEL_OPERATOR_NOT_IN)
CLUSTERS = ["cluster.yaml", "kuberay/raycluster.yaml"]


def described() -> list[dict[str, Any]]:
    """What EC2 tells of the machines in use: `ray up` adds their memory to the resources of the file."""
    found = []
    for name, (_, gib) in PODS_AND_GIB.items():
        cpus, gpus = INSTANCES[name]
        machine = {"InstanceType": name, "VCpuInfo": {"DefaultVCpus": cpus}, "MemoryInfo": {"SizeInMiB": 1024 * gib}}
        found.append(
            machine
            | ({"GpuInfo": {"Gpus": [{"Name": "L40S", "Manufacturer": "NVIDIA", "Count": gpus}]}} if gpus else {})
        )
    return found


@functools.cache
def autoscaling(name: str) -> AutoscalingConfig:
    """What Ray's autoscaler makes of a cluster file."""
    config = filled(name)
    if name.startswith("kuberay/"):
        config["metadata"]["namespace"] = "default"
        return AutoscalingConfig(_derive_autoscaling_config_from_ray_cr(config), skip_content_hash=True)
    with mock.patch.object(node_provider, "list_ec2_instances", lambda *_arguments: described()):
        return AutoscalingConfig(AWSNodeProvider.fillout_available_node_types_resources(config), skip_content_hash=True)


def request(resources: Mapping[str, float], labels: Mapping[str, str]) -> ResourceRequest:
    """One actor, worker or bundle, as Ray asks the autoscaler for it."""
    rules = []
    for name, wanted in labels.items():
        values = re.sub(r"^!?(in\()?|\)$", "", wanted).split(",")
        rules.append((name, OPERATORS[wanted[0] == "!"], [value.strip() for value in values]))
    return ResourceRequestUtil.make(dict(resources), label_selectors=[rules] if rules else None)


@dataclass(frozen=True)
class Demand:
    """`count` requests of one shape: single (actors), together (a training's workers) or as a floor (Ray Data's)."""

    count: int
    resources: Mapping[str, float]
    labels: Mapping[str, str]
    way: str = "single"


def schedule(name: str, demands: Iterable[Demand]) -> SchedulingReply:
    """The scheduler's answer on a cluster of a head alone."""
    config = autoscaling(name)
    types = config.get_node_type_configs()
    asked = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs={kind: node for kind, node in types.items() if kind != config.get_head_node_type()},
        max_num_nodes=config.get_max_num_worker_nodes(),
    )
    for demand in demands:
        one = [request(demand.resources, demand.labels)] * demand.count
        counted = ResourceRequestUtil.group_by_count(one)
        if demand.way == "single":
            asked.resource_requests += counted
        elif demand.way == "together":
            asked.gang_resource_requests.append(GangResourceRequest(requests=one))
        else:
            asked.cluster_resource_constraints.append(ClusterResourceConstraint(resource_requests=counted))
    return ResourceDemandScheduler().schedule(asked)


def launched(reply: SchedulingReply) -> Counter[str]:
    assert not reply.infeasible_resource_requests and not reply.infeasible_gang_resource_requests
    assert not reply.infeasible_cluster_resource_constraints
    return Counter({launch.instance_type: launch.count for launch in reply.to_launch})


def of_pool(pool: Pool, way: str = "single") -> Demand:
    """A whole pool of actors; `floor` is what Ray Data asks for beside them, with the labels that shardmap gives it."""
    asked = pool.remote()
    resources = {"CPU": asked["num_cpus"]} | ({"GPU": asked["num_gpus"]} if "num_gpus" in asked else {})
    return Demand(pool.max_actors or pool.actors, resources, pool.labels, way)


def stages(recipe: Recipe) -> dict[str, list[Demand]]:
    """What the stages of each role ask for."""
    place = recipe.placement
    samplers = Pool.of(place.sampling, "placement.sampling", place.sampling.gpus)
    verifiers = Pool.of(place.verification, "placement.verification")
    worker = {"CPU": place.training.cpus} | ({"GPU": place.training.gpus} if place.training.gpus else {})
    return {
        "sampler": [of_pool(samplers), of_pool(samplers, "floor")],
        "verifier": [of_pool(verifiers), of_pool(verifiers, "floor")],
        "trainer": [Demand(place.training.workers, worker, place.training.labels, "together")],
    }


def of_roles(recipe: Recipe) -> Recipe:
    """The recipe with the labels that kuberay/rayjob.yaml's entrypoint gives it."""
    entrypoint = filled("kuberay/rayjob.yaml")["spec"]["entrypoint"]
    return load(f"jobs/recipes/{recipe.name}.yaml", re.findall(r"--set (\S+)", entrypoint))


def read(name: str, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A shipped recipe, whether its data and weights are here or not."""
    monkeypatch.setattr("app.recipe._check_files", lambda *_arguments: None)
    return load(f"jobs/recipes/{name}.yaml")


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("name", RECIPES)
def test_every_stage_starts_nodes_of_its_role_alone(name: str, cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = read(name, monkeypatch)
    recipe = recipe if name in LABELLED else of_roles(recipe)
    for role, demands in stages(recipe).items():
        assert set(launched(schedule(cluster, demands))) == {role}, role


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("name", sorted(LABELLED))
def test_as_many_nodes_as_the_recipe_needs_are_started(
    name: str, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read(name, monkeypatch)
    started = {role: launched(schedule(cluster, demands))[role] for role, demands in stages(recipe).items()}
    place, verifier = recipe.placement, autoscaling(cluster).get_node_type_configs()["verifier"]
    assert started["sampler"] == place.sampling.actors  # an engine a GPU, a GPU a node
    assert started["trainer"] == place.training.workers / 8
    assert started["verifier"] == -(-place.verification.actors // verifier.resources["CPU"])


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_what_labels_are_for(cluster: str) -> None:
    """The same eight sampling actors without them start the dearest node there is; so would Ray Data's own request. And
    two training workers land on spot nodes."""
    for way in ("single", "floor"):
        assert launched(schedule(cluster, [Demand(8, {"CPU": 2, "GPU": 1}, {}, way)])) == {"trainer": 1}
    assert launched(schedule(cluster, [Demand(2, {"CPU": 2, "GPU": 1}, {}, "together")])) == {"sampler": 2}


def test_more_actors_than_nodes_start_all_samplers_and_no_other_node() -> None:
    reply = schedule("cluster.yaml", [of_pool(Pool.of(ActorPlacement(actors=99, labels={"role": "sampler"}), "", 1))])
    assert {launch.instance_type: launch.count for launch in reply.to_launch} == {"sampler": 64}
    assert len(reply.infeasible_resource_requests) == 35


@pytest.mark.parametrize(("wanted", "started"), [("!spot", "trainer"), ("in(spot, fast)", "sampler")])
def test_selectors_mean_what_a_recipe_says(wanted: str, started: str) -> None:
    assert launched(schedule("cluster.yaml", [Demand(1, {"GPU": 1}, {"market": wanted})])) == {started: 1}
