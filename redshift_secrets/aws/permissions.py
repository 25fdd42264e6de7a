"""The IAM permissions that each call to AWS takes: action, resource, conditions. Pure, and loads no boto3.

From the service authorization reference, https://docs.aws.amazon.com/service-authorization/latest/reference/: list_amazonredshift.html,
list_amazonredshiftserverless.html, list_amazonresourcegrouptaggingapi.html, list_awssecretsmanager.html,
list_awskeymanagementservice.html and list_awssecuritytokenservice.html. sts:GetCallerIdentity takes none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from redshift_secrets.model import MintRequest, WarehouseKind

ANY = "*"

MINT: Mapping[tuple[str, WarehouseKind], str] = {
    ("db-user", "cluster"): "redshift:GetClusterCredentials",
    ("iam", "cluster"): "redshift:GetClusterCredentialsWithIAM",
    ("iam", "workgroup"): "redshift-serverless:GetCredentials",
    ("secret", "cluster"): "secretsmanager:GetSecretValue",
    ("secret", "workgroup"): "secretsmanager:GetSecretValue",
}
"""The action that mints, by way of authenticating and kind of warehouse."""

_ASSUME = {"Tags": "sts:TagSession", "SourceIdentity": "sts:SetSourceIdentity", "ProvidedContexts": "sts:SetContext"}
"""What arguments of sts:AssumeRole take beside it."""

Conditions = tuple[tuple[str, str, tuple[str, ...]], ...]
"""Operator, key and values of each condition of a statement."""


class Place(Struct, frozen=True):
    """An account and a region; `ANY` for what is not known of it."""

    region: str = ANY
    account: str = ANY
    partition: str = "aws"

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a resource here."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"


class Permission(Struct, frozen=True):
    """An action on one resource, under conditions. `purpose` is what it is for, as the `Sid` of a statement."""

    purpose: str
    action: str
    resource: str
    conditions: Conditions = ()


def partition(region: str) -> str:
    """Return the partition of a region: https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html"""
    known = {
        "cn-": "aws-cn",
        "us-gov-": "aws-us-gov",
        "us-iso-": "aws-iso",
        "us-isob-": "aws-iso-b",
        "eu-isoe-": "aws-iso-e",
        "us-isof-": "aws-iso-f",
        "eusc-": "aws-eusc",
    }
    return next((name for begin, name in known.items() if region.startswith(begin)), "aws")


def to_list(kind: WarehouseKind, place: Place) -> list[Permission]:
    """Return what it takes to list all warehouses of a kind with their tags."""
    if kind == "cluster":
        return [Permission("ListClusters", "redshift:DescribeClusters", place.arn("redshift", "cluster:*"))]
    return [
        _of_region("ListWorkgroups", "redshift-serverless:ListWorkgroups", place),
        _of_region("ListWorkgroups", "redshift-serverless:ListNamespaces", place),
        _of_region("ListWorkgroups", "tag:GetResources", place),
        # Where the tagging API is not reached, tags are listed one by one.
        Permission(
            "ReadTagsOfWorkgroups",
            "redshift-serverless:ListTagsForResource",
            place.arn("redshift-serverless", "workgroup/*"),
        ),
    ]


def to_list_endpoints(kind: WarehouseKind, place: Place) -> list[Permission]:
    """Return what it takes to list Redshift-managed VPC endpoints."""
    action = "redshift:DescribeEndpointAccess" if kind == "cluster" else "redshift-serverless:ListEndpointAccess"
    return [_of_region("ListVpcEndpoints", action, place)]


def to_describe(kind: WarehouseKind, arn: str) -> list[Permission]:
    """Return what it takes to ask for the state of one warehouse."""
    if kind == "cluster":
        return [Permission("ListClusters", "redshift:DescribeClusters", arn)]
    return [Permission("DescribeWorkgroups", "redshift-serverless:GetWorkgroup", arn)]


def to_mint(request: MintRequest, secret_key: str | None = None) -> list[Permission]:
    """Return what it takes to mint what is requested, which may have wildcards.

    `secret_key` is the ARN of the customer's KMS key that encrypts an admin secret, `None` where that is AWS's own.
    """
    action = MINT[request.auth, request.kind]
    if request.auth == "secret":
        arn = str(request.admin_secret_arn)
        return [Permission("ReadAdminSecrets", action, arn), *_to_decrypt(arn, request.region, secret_key)]
    if request.kind == "workgroup":
        return [Permission("LogInToWorkgroups", action, request.arn)]
    base, identifier = request.arn.rpartition(":cluster:")[0], request.identifier
    database = f"{base}:dbname:{identifier}/{request.database}"
    if request.auth == "iam":
        return [Permission("LogInToClustersAsIamIdentity", action, database)]
    user = f"{base}:dbuser:{identifier}/{request.db_user}"
    found = [Permission("LogInToClusters", action, resource) for resource in (user, database)]
    if request.auto_create:
        found.append(Permission("CreateDatabaseUsers", "redshift:CreateClusterUser", user))
    for group in request.db_groups:
        found.append(Permission("JoinGroups", "redshift:JoinGroup", f"{base}:dbgroup:{identifier}/{group}"))
    return found


def to_assume(role_arn: str, arguments: Iterable[str] = ()) -> list[Permission]:
    """Return what it takes to assume a role, with these arguments of sts:AssumeRole, but for tags, which `to_tag` knows."""
    actions = ["sts:AssumeRole", *(_ASSUME[name] for name in sorted(arguments) if name in _ASSUME and name != "Tags")]
    return [Permission("AssumeRoles", action, role_arn) for action in actions]


def to_tag(role_arn: str, tags: Mapping[str, Iterable[str] | None]) -> list[Permission]:
    """Return what it takes to assume a role with session tags: keys, each with its possible values (`None`: any).

    https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html
    """
    if not tags:
        return []
    values = {key: tuple(sorted({*each})) for key, each in sorted(tags.items()) if each is not None}
    conditions = (
        *(("StringLikeIfExists", f"aws:RequestTag/{key}", each) for key, each in values.items()),
        ("ForAllValues:StringEquals", "aws:TagKeys", tuple(sorted(tags))),
    )
    return [Permission("TagSessions", "sts:TagSession", role_arn, conditions)]


def _of_region(purpose: str, action: str, place: Place) -> Permission:
    """An action that takes no resource."""
    conditions: Any = () if place.region == ANY else (("StringEquals", "aws:RequestedRegion", (place.region,)),)
    return Permission(purpose, action, ANY, conditions)


def _to_decrypt(secret_arn: str, region: str, key: str | None) -> list[Permission]:
    """https://docs.aws.amazon.com/secretsmanager/latest/userguide/security-encryption.html"""
    if key is None:
        return []
    suffix = "amazonaws.com.cn" if partition(region) == "aws-cn" else "amazonaws.com"
    service = f"secretsmanager.{region}.{suffix}"
    conditions = (
        (_operator(service), "kms:ViaService", (service,)),
        (_operator(secret_arn), "kms:EncryptionContext:SecretARN", (secret_arn,)),
    )
    return [Permission("DecryptAdminSecrets", "kms:Decrypt", key, conditions)]


def _operator(value: str) -> str:
    return "StringLike" if ANY in value else "StringEquals"
