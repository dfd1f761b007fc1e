"""Look for what would stop a run on AWS before money is spent: `python -m jobs.preflight --cluster FILE --recipe R`.

    python -m jobs.preflight --cluster my-cluster.yaml --recipe gsm8k_deepseek7b --runs s3://BUCKET/runs

FILE is cluster.yaml with its names filled in. Nothing is started or changed: the calls to AWS read, or are dry runs.
They use this machine's credentials, so what the nodes' own roles may do with the bucket is not seen. Ends with 0 where
all is well, 1 where something would stop the run. What needs no call to AWS comes first; `--offline` stops there.
"""

from __future__ import annotations

import argparse
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml

from app.capacity import Need, Node
from app.cost import ROLES, held, money, rates
from app.errors import UserError, one_clear_error
from app.graph import build
from app.recipe import Recipe, load
from jobs.findings import Finding, failed, fine, warning
from jobs.run import find_recipe

Role = Literal["sampler", "verifier", "trainer"]
PARTS: dict[Role, str] = {"sampler": "sampling", "verifier": "verification", "trainer": "training"}


def read(path: str) -> dict[str, Any]:
    """A filled cluster file for AWS. Raises UserError where it is something else."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; fill in cluster.yaml as docs/cluster.md says")
    try:
        body = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(body, dict) or "available_node_types" not in body:
        raise UserError(f"{path}: no available_node_types: give a file for `ray up`, such as cluster.yaml")
    if (kind := body.get("provider", {}).get("type")) != "aws":
        raise UserError(f"{path}: provider.type is {kind}; only aws can be looked at")
    return body


def unfilled(path: str) -> Iterator[Finding]:
    """Names in braces that are still there, comments aside."""
    lines = (
        line.partition(" #")[0] for line in Path(path).read_text().splitlines() if not line.lstrip().startswith("#")
    )
    names = sorted({name for line in lines for name in re.findall(r"\$\{(\w+)\}", line)})
    yield failed("names", f"not filled in: {', '.join(names)}") if names else fine("names", "all filled in")


def needs(recipe: Recipe) -> dict[Role, Need]:
    """What the recipe's stages ask for, by the role that app/cost.py gives them; the largest a pool may grow to."""
    found: dict[Role, Need] = {}
    for stage in build(recipe):
        role, pool = ROLES.get(stage.name.partition("/")[0]), held(recipe, stage.name)
        if role and pool.actors:
            place = getattr(recipe.placement, PARTS[role])
            found[role] = Need(pool.actors, place.cpus, getattr(place, "gpus", 0), place.labels)
    return found


def nodes_for(cluster: dict[str, Any], need: Need) -> dict[str, int]:
    """How many of a need one node of each worker type holds, by the type's name; types that hold none are left out."""
    found = {}
    for name, kind in cluster["available_node_types"].items():
        resources = kind.get("resources", {})
        node = Node(resources.get("CPU", 0), resources.get("GPU", 0), kind.get("labels", {}))
        if name != cluster["head_node_type"] and (room := node.room(need)):
            found[name] = room
    return found


def placement(cluster: dict[str, Any], recipe: Recipe) -> Iterator[Finding]:
    """Whether each stage finds nodes, enough of them, and none that are meant for others."""
    types = cluster["available_node_types"]
    for role, need in needs(recipe).items():
        part, fit = f"placement.{PARTS[role]}", nodes_for(cluster, need)
        roles = sorted({types[name].get("labels", {}).get("role", name) for name in fit})
        room = sum(each * types[name].get("max_workers", 0) for name, each in fit.items())
        if not fit:
            yield failed(part, f"no node type has room for one of {need}")
        elif len(roles) > 1:
            yield failed(part, f"{need} may start nodes of {' and '.join(roles)}: --set {part}.labels.role={role}")
        elif room < need.count:
            yield warning(part, f"room for {room} of {need}: slower than asked; raise max_workers of {', '.join(fit)}")
        else:
            yield fine(part, f"{need} on {', '.join(fit)}")


def files(cluster: dict[str, Any]) -> Iterator[Finding]:
    """Files that travel to the nodes: there, and for nobody else to read."""
    for source in cluster.get("file_mounts", {}).values():
        path = Path(source).expanduser()
        if not path.is_file():
            yield failed("files", f"{source}: no such file (docs/cluster.md, The token)")
        elif (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
            yield failed("files", f"{source}: mode {mode:o}; others may read it: chmod 600 {source}")
        else:
            yield fine("files", source)


def images(cluster: dict[str, Any]) -> list[str]:
    """Every image that the file names."""
    kinds = cluster["available_node_types"].values()
    named = [cluster.get("docker", {}).get("image")] + [kind.get("docker", {}).get("worker_image") for kind in kinds]
    return sorted({image for image in named if image})


def pinned(cluster: dict[str, Any]) -> Iterator[Finding]:
    for image in images(cluster):
        if re.search(r"@sha256:[0-9a-f]{64}$", image):
            yield fine("images", image)
        else:
            yield failed("images", f"{image}: not named by digest (NAME@sha256:...): nodes may run different ones")


def prices(recipe: Recipe) -> Iterator[Finding]:
    """What an hour of each role's whole pool costs, at the recipe's prices."""
    if recipe.prices is None:
        yield warning("prices", "the recipe has none: neither this page nor the status can tell what a run costs")
        return
    for role, need in needs(recipe).items():
        stage = next(stage.name for stage in build(recipe) if ROLES.get(stage.name.partition("/")[0]) == role)
        cpu, gpu = rates(recipe.prices, stage)
        hour = need.count * (need.cpus * cpu + need.gpus * gpu)
        yield fine("prices", f"{role}: {need} cost {money(hour, recipe.prices.currency)} an hour")


@one_clear_error
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.preflight", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cluster", required=True, metavar="FILE", help="cluster.yaml, filled in")
    parser.add_argument("--recipe", required=True, help="a recipe's file, or the name of one in jobs/recipes")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as given to jobs.run")
    parser.add_argument("--runs", metavar="URI", help="where the runs will lie, if that is a bucket")
    parser.add_argument("--offline", action="store_true", help="only what needs no call to AWS")
    args = parser.parse_args(argv)
    cluster, recipe = read(args.cluster), load(find_recipe(args.recipe), args.set)
    found = [
        *unfilled(args.cluster),
        *files(cluster),
        *pinned(cluster),
        *placement(cluster, recipe),
        *prices(recipe),
    ]
    if not args.offline:
        from jobs.preflight_aws import account

        wanted = {name: nodes for name, nodes in counts(cluster, recipe).items() if nodes}
        found += account(cluster, wanted, images(cluster), args.runs)
    print("\n".join(str(finding) for finding in found))
    return int(any(finding.state == "FAIL" for finding in found))


def counts(cluster: dict[str, Any], recipe: Recipe) -> dict[str, int]:
    """How many nodes of each type the recipe may start at most, the head among them."""
    types = cluster["available_node_types"]
    found = dict.fromkeys(types, 0) | {cluster["head_node_type"]: 1}
    for need in needs(recipe).values():
        for name, each in nodes_for(cluster, need).items():
            found[name] = max(found[name], min(-(-need.count // each), types[name].get("max_workers", 0)))
    return found


if __name__ == "__main__":
    sys.exit(main())
