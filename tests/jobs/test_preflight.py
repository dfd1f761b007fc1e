"""What a look before the run finds: in the file and the recipe, and in an account that moto plays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs import preflight
from tests.cluster.test_files import NAMES, ROOT

SIZES = {"L-1216C47A": 8, "L-3819A6DF": 32, "L-417A185B": 192, "L-34B43A08": 16}  # vCPUs that the recipe may take


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the files that travel to the nodes."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir()
    for name in (".ray/auth_token", ".eightfold.env"):
        (tmp_path / name).touch(mode=0o600)
    return tmp_path


def cluster(folder: Path, names: dict[str, str] | None = None, **changes: Any) -> str:
    """cluster.yaml, filled in; `changes` are those of the sampler's node_config."""
    text = re.sub(r"\$\{(\w+)\}", lambda match: (NAMES | (names or {}))[match[1]], (ROOT / "cluster.yaml").read_text())
    body = yaml.safe_load(text)
    body["available_node_types"]["sampler"]["node_config"] |= changes
    file = folder / "my-cluster.yaml"
    file.write_text(yaml.safe_dump(body))
    return str(file)


def found(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    """The exit code, and every line that is not `ok`."""
    code = preflight.main(["--recipe", "gsm8k_deepseek7b", *arguments])
    said = capsys.readouterr()
    return code, [line for line in (said.out + said.err).splitlines() if not line.startswith("ok ")]


def test_a_good_file_passes_and_says_what_an_hour_costs(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prices = ["--set", "prices={currency: EUR, cpu_hour: 0.05, gpu_hour: 1, trainer: {gpu_hour: 7}}"]
    assert preflight.main(["--cluster", cluster(home), "--recipe", "gsm8k_deepseek7b", "--offline", *prices]) == 0
    said = capsys.readouterr().out
    assert "sampler: 8 x (2 CPU, 1 GPU, role=sampler) cost 8.80 EUR an hour" in said
    assert "trainer: 8 x (4 CPU, 1 GPU, role=trainer) cost 57.60 EUR an hour" in said  # 8 * (4 * 0.05 + 7)


def test_an_unfilled_file_is_found_out(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = found(capsys, "--cluster", str(ROOT / "cluster.yaml"), "--offline")
    assert code == 1
    assert lines[0].startswith("FAIL  names: not filled in: AMI, CPU_IMAGE,")
    assert sum("not named by digest" in line for line in lines) == 2


def test_files_must_be_there_and_private(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / ".ray/auth_token").chmod(0o644)
    (home / ".eightfold.env").unlink()
    code, lines = found(capsys, "--cluster", cluster(home), "--offline")
    assert code == 1
    assert "FAIL  files: ~/.ray/auth_token: mode 644; others may read it: chmod 600 ~/.ray/auth_token" in lines
    assert any(line.startswith("FAIL  files: ~/.eightfold.env: no such file") for line in lines)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "placement.sampling.labels={}",
            "FAIL  placement.sampling: 8 x (2 CPU, 1 GPU) may start nodes of sampler and trainer",
        ),
        ("placement.sampling.labels.role=smapler", "FAIL  placement.sampling: no node type has room for one of"),
        ("placement.sampling.cpus=5", "FAIL  placement.sampling: no node type has room for one of"),
        ("placement.training.workers=24", "warn  placement.training: room for 16 of 24 x"),
    ],
)
def test_placement_must_meet_nodes_of_its_own(
    home: Path, capsys: pytest.CaptureFixture[str], override: str, line: str
) -> None:
    code, lines = found(capsys, "--cluster", cluster(home), "--offline", "--set", override)
    assert code == int(line.startswith("FAIL"))
    assert any(one.startswith(line) for one in lines), lines


@pytest.mark.parametrize("body", ["a: [", "a: 1", "provider: {type: gcp}\navailable_node_types: {}"])
def test_other_files_are_a_users_error(tmp_path: Path, capsys: pytest.CaptureFixture[str], body: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(body)
    code, lines = found(capsys, "--cluster", str(file), "--offline")
    assert code == 2 and lines[0].startswith(f"error: {file}: ")


# -- with an account --------------------------------------------------------------------------------------------------


class Account:
    """An account of moto's with all that the run needs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import boto3
        from moto.servicequotas.models import ServiceQuotasBackend

        self.session = boto3.Session(region_name="us-west-2")
        self.ec2, self.iam = self.session.client("ec2"), self.session.client("iam")
        self.quotas = dict(SIZES)
        monkeypatch.setattr(
            ServiceQuotasBackend,
            "get_service_quota",
            lambda _self, service_code, quota_code: {
                "QuotaName": "a quota",
                "QuotaCode": quota_code,
                "Value": self.quotas[quota_code],
            },
        )
        zones = self.ec2.describe_subnets()["Subnets"]
        names = dict(zip(("SUBNET", "SUBNET_B", "SUBNET_C"), [zone["SubnetId"] for zone in zones], strict=False))
        group = self.ec2.create_security_group(GroupName="eightfold", Description="x", VpcId=zones[0]["VpcId"])
        ami = self.ec2.describe_images()["Images"][0]["ImageId"]
        digest = self.push("eightfold-cpu")
        image = f"123456789012.dkr.ecr.us-west-2.amazonaws.com/eightfold-cpu@{digest}"
        self.group = group["GroupId"]
        self.names = names | {"SECURITY_GROUP": self.group, "AMI": ami, "CPU_IMAGE": image, "GPU_IMAGE": image}
        for role in ("eightfold-head", "eightfold-worker", "AWSServiceRoleForEC2Spot"):
            self.iam.create_role(RoleName=role, AssumeRolePolicyDocument="{}")
            self.iam.create_instance_profile(InstanceProfileName=role)
            self.iam.add_role_to_instance_profile(InstanceProfileName=role, RoleName=role)
        place = {"LocationConstraint": "us-west-2"}
        self.session.client("s3").create_bucket(Bucket="runs", CreateBucketConfiguration=place)

    def push(self, name: str) -> str:
        """A digest of an image in the registry."""
        ecr = self.session.client("ecr")
        ecr.create_repository(repositoryName=name)
        manifest = (
            '{"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "layers": []}'
        )
        return str(ecr.put_image(repositoryName=name, imageManifest=manifest)["image"]["imageId"]["imageDigest"])


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    moto = pytest.importorskip("moto", reason="moto plays AWS")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")  # the file's region counts, not this
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with moto.mock_aws():
        yield Account(monkeypatch)


def test_a_ready_account_passes(home: Path, account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = found(capsys, "--cluster", cluster(home, account.names), "--runs", "s3://runs/here")
    assert (code, lines) == (0, [line for line in lines if line.startswith("warn  prices")])


def test_what_is_missing_in_an_account_is_named(
    home: Path, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.quotas["L-3819A6DF"] = 0
    account.iam.remove_role_from_instance_profile(InstanceProfileName="eightfold-head", RoleName="eightfold-head")
    account.iam.remove_role_from_instance_profile(
        InstanceProfileName="AWSServiceRoleForEC2Spot", RoleName="AWSServiceRoleForEC2Spot"
    )
    account.iam.delete_role(RoleName="AWSServiceRoleForEC2Spot")
    account.ec2.authorize_security_group_ingress(
        GroupId=account.group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0"
    )
    code, lines = found(capsys, "--cluster", cluster(home, account.names), "--runs", "s3://elsewhere/here")
    failures = [line for line in lines if line.startswith("FAIL")]
    assert code == 1 and failures == [
        "FAIL  quotas: a quota (L-3819A6DF): 0 vCPUs, the run may take 32",
        f"FAIL  groups: {account.group} admits every address (0.0.0.0/0)",
        "FAIL  roles: eightfold-head: no such instance profile with a role",
        "FAIL  roles: none for spot instances in this account: "
        "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com",
        "FAIL  bucket: elsewhere: The specified bucket does not exist",
    ]


def test_a_key_that_ec2_does_not_know_is_found(
    home: Path, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = found(capsys, "--cluster", cluster(home, account.names, MetadataOption={"HttpTokens": "required"}))
    assert code == 1 and any("FAIL  starts: sampler:" in line and '"MetadataOption"' in line for line in lines)
