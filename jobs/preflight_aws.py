"""The part of `jobs.preflight` that asks AWS: permissions, quotas, zones, groups, images, the bucket, spot prices."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlparse

from app.errors import UserError
from jobs.findings import Finding, failed, fine, warning

# Quotas in vCPUs by the first letters of an instance type and whether it is spot, from Amazon's list of EC2 quotas.
QUOTAS = {
    ("g", True): "L-3819A6DF",
    ("g", False): "L-DB2E81BA",
    ("p", True): "L-7212CCBC",
    ("p", False): "L-417A185B",
    ("", True): "L-34B43A08",
    ("", False): "L-1216C47A",
}
PRIVATE = re.compile(r"^(\d+)\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com/(.+)@(sha256:[0-9a-f]{64})$")


def account(cluster: dict[str, Any], wanted: dict[str, int], images: list[str], runs: str | None) -> list[Finding]:
    """All checks; `wanted` says how many nodes of each type the run may start. UserError without boto3 or keys."""
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise UserError("boto3 is not installed: pip install boto3, or give --offline") from error
    session = boto3.Session(region_name=cluster["provider"]["region"])
    try:
        who = session.client("sts").get_caller_identity()["Arn"]
    except (BotoCoreError, ClientError) as error:
        raise UserError(f"AWS does not know this machine: {error}; log in, or give --offline") from error
    types = {name: cluster["available_node_types"][name]["node_config"] for name in wanted}
    found, ec2 = [fine("account", f"{who}, {session.region_name}")], session.client("ec2")
    checks = [
        lambda: quotas(session, ec2, types, wanted),
        lambda: zones(ec2, types),
        lambda: groups(ec2, types),
        lambda: roles(session.client("iam"), types),
        lambda: starts(ec2, types),
        lambda: registry(session, images),
        lambda: bucket(session, runs),
    ]
    for check in checks:
        try:
            found += check()
        except ClientError as error:  # the answer is a finding: no such subnet, not permitted
            found.append(failed(error.operation_name, error.response["Error"]["Message"]))
    return found


def spot(node: dict[str, Any]) -> bool:
    return node.get("InstanceMarketOptions", {}).get("MarketType") == "spot"


def quotas(session: Any, ec2: Any, types: dict[str, Any], wanted: dict[str, int]) -> Iterator[Finding]:
    """vCPUs of all nodes that may run at once under each quota."""
    named = sorted({node["InstanceType"] for node in types.values()})
    told = ec2.describe_instance_types(InstanceTypes=named)["InstanceTypes"]
    cpus = {one["InstanceType"]: one["VCpuInfo"]["DefaultVCpus"] for one in told}
    asked: Counter[str] = Counter()
    for name, node in types.items():
        letter = node["InstanceType"][0] if node["InstanceType"][0] in "gp" else ""
        asked[QUOTAS[letter, spot(node)]] += wanted[name] * cpus[node["InstanceType"]]
    for code, need in asked.items():
        quota = session.client("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]
        text = f"{quota['QuotaName']} ({code}): {quota['Value']:g} vCPUs, the run may take {need}"
        yield fine("quotas", text) if quota["Value"] >= need else failed("quotas", text)


def zones(ec2: Any, types: dict[str, Any]) -> Iterator[Finding]:
    """Whether a subnet of each node type lies in a zone that has its machine, and what spot costs there now."""
    for name, node in types.items():
        subnets = ec2.describe_subnets(SubnetIds=sorted(set(node["SubnetIds"])))["Subnets"]
        here, machine = {subnet["AvailabilityZone"] for subnet in subnets}, node["InstanceType"]
        offers = ec2.describe_instance_type_offerings(
            LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": [machine]}]
        )["InstanceTypeOfferings"]
        there = sorted(here & {offer["Location"] for offer in offers})
        if not there:
            yield failed("zones", f"{name}: no {machine} in {', '.join(sorted(here))}")
        elif spot(node) and len(there) == 1:
            yield warning("zones", f"{name}: {machine} in {there[0]} alone; spot nodes want several zones")
        else:
            yield fine("zones", f"{name}: {machine} in {', '.join(there)}{spot_price(ec2, node, there)}")


def spot_price(ec2: Any, node: dict[str, Any], there: list[str]) -> str:
    """The last spot price of each zone."""
    if not spot(node):
        return ""
    history = ec2.describe_spot_price_history(
        InstanceTypes=[node["InstanceType"]], ProductDescriptions=["Linux/UNIX"], MaxResults=100
    )["SpotPriceHistory"]
    last = {one["AvailabilityZone"]: one["SpotPrice"] for one in sorted(history, key=lambda one: str(one["Timestamp"]))}
    told = [f"{last[zone]} USD in {zone}" for zone in there if zone in last]
    return f"; spot, an hour: {', '.join(told)}" if told else ""


def groups(ec2: Any, types: dict[str, Any]) -> Iterator[Finding]:
    """Whether the nodes' groups keep the world out."""
    named = sorted({group for node in types.values() for group in node["SecurityGroupIds"]})
    for group in ec2.describe_security_groups(GroupIds=named)["SecurityGroups"]:
        ranges = [one["CidrIp"] for rule in group["IpPermissions"] for one in rule.get("IpRanges", [])]
        if "0.0.0.0/0" in ranges:
            yield failed("groups", f"{group['GroupId']} admits every address (0.0.0.0/0)")
        else:
            yield fine("groups", f"{group['GroupId']} admits {', '.join(ranges) or 'no range'}")


def roles(iam: Any, types: dict[str, Any]) -> Iterator[Finding]:
    """Instance profiles with a role in each, and the role that spot instances need in the account."""
    for profile in sorted({node["IamInstanceProfile"]["Name"] for node in types.values()}):
        try:
            inside = iam.get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]["Roles"]
        except iam.exceptions.NoSuchEntityException:
            inside = []
        yield fine("roles", profile) if inside else failed("roles", f"{profile}: no such instance profile with a role")
    if any(spot(node) for node in types.values()):
        try:
            iam.get_role(RoleName="AWSServiceRoleForEC2Spot")
            yield fine("roles", "spot instances have theirs")
        except iam.exceptions.NoSuchEntityException:
            command = "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com"
            yield failed("roles", f"none for spot instances in this account: {command}")


def starts(ec2: Any, types: dict[str, Any]) -> Iterator[Finding]:
    """A dry run of each node type's start: EC2 checks permissions and parameters, and starts nothing."""
    from botocore.exceptions import ClientError, ParamValidationError

    for name, node in types.items():
        asked = {key: value for key, value in node.items() if key != "SubnetIds"}
        try:
            ec2.run_instances(DryRun=True, MinCount=1, MaxCount=1, SubnetId=node["SubnetIds"][0], **asked)
        except ParamValidationError as error:
            yield failed("starts", f"{name}: {' '.join(str(error).split())}")
        except ClientError as error:
            if error.response["Error"]["Code"] == "DryRunOperation":
                yield fine("starts", f"{name} would start")
            else:
                yield failed("starts", f"{name}: {error.response['Error']['Message']}")


def registry(session: Any, images: list[str]) -> Iterator[Finding]:
    """Whether images in a registry of Amazon's are there; of others only the nodes can tell."""
    for image in images:
        if not (place := PRIVATE.match(image)):
            yield warning("images", f"{image}: not in a registry of Amazon's; not looked for")
            continue
        number, region, name, digest = place.groups()
        ecr = session.client("ecr", region_name=region)
        ecr.describe_images(registryId=number, repositoryName=name, imageIds=[{"imageDigest": digest}])
        yield fine("images", f"{name} is in {region}")


def bucket(session: Any, runs: str | None) -> Iterator[Finding]:
    """Whether the bucket is there, and in the nodes' region: traffic between regions is slow and charged."""
    if runs is None or not runs.startswith("s3://"):
        return
    from botocore.exceptions import ClientError

    name = urlparse(runs).netloc
    try:
        where = session.client("s3").get_bucket_location(Bucket=name)["LocationConstraint"] or "us-east-1"
    except ClientError as error:
        yield failed("bucket", f"{name}: {error.response['Error']['Message']}")
        return
    text = f"{name} is in {where}"
    yield fine("bucket", text) if where == session.region_name else warning("bucket", f"{text}, the nodes elsewhere")
