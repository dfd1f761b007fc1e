"""What cluster files may hold beyond what Ray checks, from the documentation of EC2, KubeRay and Kubernetes.

Ray's own validation lets any key through in `provider` and in `node_config`, and KubeRay's schema is not installed
here. These schemas are closed (an unknown key is an error) and cover only what this repository's files use or may soon
use: EC2 RunInstances; ray.io/v1 RayCluster and RayJob of KubeRay 1.5 to 1.7; the core of a Pod. They are a subset: a
key that they refuse may be a good one.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}


def record(properties: dict[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    """A closed mapping."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def many(item: Schema, least: int = 0) -> Schema:
    return {"type": "array", "items": item, "minItems": least}


def one_of(*values: str) -> Schema:
    return {"enum": list(values)}


# -- AWS --------------------------------------------------------------------------------------------------------------

AWS_PROVIDER = record(
    {
        "type": {"const": "aws"},
        "region": {"type": "string", "pattern": r"^[a-z]{2}(-[a-z]+)+-\d$"},
        "availability_zone": TEXT,
        "use_internal_ips": FLAG,
        "cache_stopped_nodes": FLAG,
        "key_pair": record({"key_name": TEXT}),
    },
    ("type", "region", "use_internal_ips", "cache_stopped_nodes"),
)

EBS = record(
    {
        "VolumeSize": {"type": "integer", "minimum": 1},
        "VolumeType": one_of("gp2", "gp3", "io1", "io2", "st1", "sc1", "standard"),
        "Encrypted": FLAG,
        "DeleteOnTermination": FLAG,
        "Iops": COUNT,
        "Throughput": COUNT,
        "KmsKeyId": TEXT,
    },
    ("VolumeSize",),
)

EC2_NODE = record(
    {
        "InstanceType": {"type": "string", "pattern": r"^[a-z0-9-]+\.[a-z0-9-]+$"},
        "ImageId": TEXT,
        "SubnetIds": many(TEXT, 1),  # Ray's own: it tries one after the other
        "SecurityGroupIds": many(TEXT, 1),
        "IamInstanceProfile": record({"Name": TEXT, "Arn": TEXT}),
        "KeyName": TEXT,
        "MetadataOptions": record(
            {
                "HttpEndpoint": one_of("enabled", "disabled"),
                "HttpTokens": one_of("required", "optional"),
                "HttpPutResponseHopLimit": {"type": "integer", "minimum": 1, "maximum": 64},
            }
        ),
        "InstanceMarketOptions": record(
            {
                "MarketType": one_of("spot", "capacity-block"),
                "SpotOptions": record(
                    {
                        "MaxPrice": TEXT,
                        "SpotInstanceType": one_of("one-time", "persistent"),
                        "InstanceInterruptionBehavior": one_of("hibernate", "stop", "terminate"),
                    }
                ),
            },
            ("MarketType",),
        ),
        "BlockDeviceMappings": many(record({"DeviceName": TEXT, "Ebs": EBS}, ("DeviceName", "Ebs")), 1),
        "CapacityReservationSpecification": record(
            {
                "CapacityReservationPreference": one_of("open", "none", "capacity-reservations-only"),
                "CapacityReservationTarget": record(
                    {"CapacityReservationId": TEXT, "CapacityReservationResourceGroupArn": TEXT}
                ),
            }
        ),
        "Placement": record({"GroupName": TEXT, "AvailabilityZone": TEXT, "Tenancy": TEXT}),
    },
    ("InstanceType", "ImageId", "SubnetIds", "SecurityGroupIds", "IamInstanceProfile", "MetadataOptions"),
)

# vCPUs and GPUs of the instance types in use, from Amazon's tables.
INSTANCES = {
    "m7i.2xlarge": (8, 0),
    "g6e.xlarge": (4, 1),
    "p5.48xlarge": (192, 8),
    "c7i.4xlarge": (16, 0),
}
# Pods that EKS lets run on one at most, and GiB of memory.
PODS_AND_GIB = {"m7i.2xlarge": (58, 32), "g6e.xlarge": (58, 32), "p5.48xlarge": (100, 2048), "c7i.4xlarge": (234, 32)}

# -- Kubernetes -------------------------------------------------------------------------------------------------------

QUANTITY: Schema = {"type": "string", "pattern": r"^\d+(\.\d+)?(m|[KMGT]i?)?$"}
QUANTITIES: Schema = {"type": "object", "additionalProperties": QUANTITY}
RESOURCES = record({"requests": QUANTITIES, "limits": QUANTITIES})
SECRET_REF = record({"secretKeyRef": record({"name": TEXT, "key": TEXT}, ("name", "key"))}, ("secretKeyRef",))
VARIABLE = record({"name": TEXT, "value": {"type": "string"}, "valueFrom": SECRET_REF}, ("name",))

CONTAINER = record(
    {
        "name": TEXT,
        "image": TEXT,
        "imagePullPolicy": one_of("Always", "IfNotPresent", "Never"),
        "env": many(VARIABLE),
        "envFrom": many(record({"secretRef": record({"name": TEXT, "optional": FLAG}, ("name",))}, ("secretRef",))),
        "resources": RESOURCES,
        "ports": many(record({"containerPort": COUNT, "name": TEXT}, ("containerPort",))),
        "securityContext": record({"allowPrivilegeEscalation": FLAG, "readOnlyRootFilesystem": FLAG}),
        "lifecycle": record({"preStop": record({"exec": record({"command": many(TEXT, 1)}, ("command",))})}),
        "volumeMounts": many(record({"name": TEXT, "mountPath": TEXT, "readOnly": FLAG}, ("name", "mountPath"))),
    },
    ("name", "image", "resources"),
)

POD = record(
    {
        "restartPolicy": one_of("Never", "Always", "OnFailure"),
        "terminationGracePeriodSeconds": COUNT,
        "serviceAccountName": TEXT,
        "securityContext": record(
            {
                "runAsUser": COUNT,
                "runAsGroup": COUNT,
                "fsGroup": COUNT,
                "fsGroupChangePolicy": one_of("OnRootMismatch", "Always"),
                "runAsNonRoot": FLAG,
            },
        ),
        "imagePullSecrets": many(record({"name": TEXT}, ("name",))),
        "nodeSelector": TEXTS,
        "tolerations": many(
            record(
                {
                    "key": TEXT,
                    "operator": one_of("Equal", "Exists"),
                    "value": TEXT,
                    "effect": one_of("NoSchedule", "PreferNoSchedule", "NoExecute"),
                }
            )
        ),
        "containers": many(CONTAINER, 1),
        "volumes": many(
            record(
                {
                    "name": TEXT,
                    "persistentVolumeClaim": record({"claimName": TEXT}, ("claimName",)),
                    "emptyDir": record({"medium": one_of("Memory"), "sizeLimit": QUANTITY}),
                },
                ("name",),
            )
        ),
    },
    ("containers",),
)
TEMPLATE = record({"metadata": record({"labels": TEXTS, "annotations": TEXTS}), "spec": POD}, ("spec",))

WORKER_GROUP = record(
    {
        "groupName": {"type": "string", "pattern": r"^[a-z]([a-z0-9-]*[a-z0-9])?$"},
        "labels": TEXTS,
        "resources": TEXTS,
        "replicas": COUNT,
        "minReplicas": COUNT,
        "maxReplicas": COUNT,
        "numOfHosts": COUNT,
        "idleTimeoutSeconds": COUNT,
        "suspend": FLAG,
        "rayStartParams": TEXTS,
        "template": TEMPLATE,
    },
    ("groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"),
)

RAY_CLUSTER_SPEC = record(
    {
        "rayVersion": TEXT,
        "suspend": FLAG,
        "enableInTreeAutoscaling": FLAG,
        "autoscalerOptions": record(
            {
                "version": one_of("v1", "v2"),
                "upscalingMode": one_of("Default", "Aggressive", "Conservative"),
                "idleTimeoutSeconds": COUNT,
                "imagePullPolicy": one_of("Always", "IfNotPresent", "Never"),
                "resources": RESOURCES,
                "env": many(VARIABLE),
            }
        ),
        "authOptions": record({"mode": one_of("disabled", "token")}, ("mode",)),
        "gcsFaultToleranceOptions": record(
            {
                "redisAddress": TEXT,
                "redisUsername": record({"value": TEXT, "valueFrom": SECRET_REF}),
                "redisPassword": record({"value": TEXT, "valueFrom": SECRET_REF}),
                "externalStorageNamespace": TEXT,
            }
        ),
        "headGroupSpec": record(
            {
                "serviceType": one_of("ClusterIP", "NodePort", "LoadBalancer"),
                "enableIngress": FLAG,
                "labels": TEXTS,
                "resources": TEXTS,
                "rayStartParams": TEXTS,
                "template": TEMPLATE,
            },
            ("rayStartParams", "template"),
        ),
        "workerGroupSpecs": many(WORKER_GROUP),
    },
    ("rayVersion", "headGroupSpec"),
)

METADATA = record({"name": TEXT, "namespace": TEXT, "labels": TEXTS, "annotations": TEXTS}, ("name",))


def kind(name: str, spec: Schema) -> Schema:
    """A whole object of Kubernetes."""
    return record(
        {"apiVersion": {"const": "ray.io/v1"}, "kind": {"const": name}, "metadata": METADATA, "spec": spec},
        ("apiVersion", "kind", "metadata", "spec"),
    )


RAY_CLUSTER = kind("RayCluster", RAY_CLUSTER_SPEC)
RAY_JOB = kind(
    "RayJob",
    record(
        {
            "entrypoint": TEXT,
            "runtimeEnvYAML": TEXT,
            "jobId": TEXT,
            "metadata": TEXTS,
            "submissionMode": one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
            "submitterConfig": record({"backoffLimit": COUNT}),
            "backoffLimit": COUNT,
            "activeDeadlineSeconds": COUNT,
            "shutdownAfterJobFinishes": FLAG,
            "ttlSecondsAfterFinished": COUNT,
            "suspend": FLAG,
            "clusterSelector": TEXTS,
            "entrypointNumCpus": {"type": "number", "minimum": 0},
            "entrypointNumGpus": {"type": "number", "minimum": 0},
            "entrypointResources": TEXT,
            "rayClusterSpec": RAY_CLUSTER_SPEC,
        },
        ("entrypoint",),
    ),
)


# -- SkyPilot ---------------------------------------------------------------------------------------------------------

# A subset of what SkyPilot 0.14.1 takes for a task: its own closed schemas (sky/utils/schemas.py).
SKY_RESOURCES: dict[str, Schema] = {
    "infra": TEXT,
    "accelerators": {"type": "string", "pattern": r"^[A-Za-z0-9-]+:\d+$"},
    "cpus": TEXT,
    "memory": TEXT,
    "instance_type": TEXT,
    "use_spot": FLAG,
    "disk_size": COUNT,
    "job_recovery": record({"strategy": TEXT, "max_restarts_on_errors": COUNT}),
}
SKY_VARIABLES: Schema = {
    "type": "object",
    "propertyNames": {"pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"},
    "additionalProperties": {"type": ["string", "null"]},
}
SKY_TASK = record(
    {
        "name": TEXT,
        "workdir": TEXT,
        "num_nodes": COUNT,
        "resources": record({**SKY_RESOURCES, "any_of": many(record(SKY_RESOURCES), 1)}),
        "envs": SKY_VARIABLES,
        "secrets": SKY_VARIABLES,
        "setup": TEXT,
        "run": TEXT,
    },
    ("name", "workdir", "resources", "run"),
)
