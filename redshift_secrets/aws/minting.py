"""Minting: one function for each way of obtaining a credential. None of them caches, retries or logs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from redshift_secrets.aws.described import seconds
from redshift_secrets.aws.errors import OddAnswerError, member, request_id
from redshift_secrets.aws.permissions import MINT, to_mint
from redshift_secrets.errors import AwsError
from redshift_secrets.model import MintRequest, WarehouseKind

Client = Callable[[str], Any]

Minted = tuple[str, str, float, "str | None"]
"""Database user, password, expiry in seconds since the epoch, and the id of the request."""


def _as_db_user(client: Client, request: MintRequest, _now: float) -> Minted:
    """https://docs.aws.amazon.com/redshift/latest/APIReference/API_GetClusterCredentials.html"""
    groups = {"DbGroups": list(request.db_groups)} if request.db_groups else {}
    response = client("redshift").get_cluster_credentials(
        ClusterIdentifier=request.identifier,
        DbName=request.database,
        DbUser=request.db_user,
        DurationSeconds=request.duration,
        AutoCreate=request.auto_create,
        **groups,
    )
    return _minted(response, "DbUser", "DbPassword", "Expiration")


def _as_iam_identity(client: Client, request: MintRequest, _now: float) -> Minted:
    """https://docs.aws.amazon.com/redshift/latest/APIReference/API_GetClusterCredentialsWithIAM.html"""
    response = client("redshift").get_cluster_credentials_with_iam(
        ClusterIdentifier=request.identifier, DbName=request.database, DurationSeconds=request.duration
    )
    return _minted(response, "DbUser", "DbPassword", "Expiration")


def _for_workgroup(client: Client, request: MintRequest, _now: float) -> Minted:
    """https://docs.aws.amazon.com/redshift-serverless/latest/APIReference/API_GetCredentials.html"""
    response = client("redshift-serverless").get_credentials(
        workgroupName=request.identifier, dbName=request.database, durationSeconds=request.duration
    )
    return _minted(response, "dbUser", "dbPassword", "expiration")


def _admin_secret(client: Client, request: MintRequest, now: float) -> Minted:
    """https://docs.aws.amazon.com/redshift/latest/mgmt/redshift-secrets-manager-integration.html

    An admin password does not expire but is rotated: it is read again after the validity of a credential.
    """
    response = client("secretsmanager").get_secret_value(SecretId=request.admin_secret_arn)
    if "SecretBinary" not in response:
        member(response, "SecretString", str)  # else it is no answer of Secrets Manager
    try:
        secret = json.loads(response["SecretString"])
        user, password = member(secret, "username", str), member(secret, "password", str)
        return user, password, now + request.duration, request_id(response)
    except (KeyError, TypeError, ValueError, RecursionError, OddAnswerError):
        raise AwsError(
            "secretsmanager:GetSecretValue", str(request.admin_secret_arn), "the calling identity", "UnreadableSecret",
            "the admin secret is not a JSON object with username and password.", "Let Redshift manage the secret.",
            request_id=request_id(response),
        ) from None  # fmt: skip


def session_tags(request: MintRequest) -> tuple[tuple[str, str], ...]:
    """Return the session tags that name the user of a request, with its groups on a cluster, its database roles on Serverless.

    https://docs.aws.amazon.com/redshift/latest/mgmt/redshift-iam-access-federated-db-roles.html
    https://docs.aws.amazon.com/redshift/latest/mgmt/query-editor-v2-getting-started.html
    """
    if request.session_role_arn is None:
        return ()
    tags = {
        "RedshiftDbUser": request.db_user or "",
        "RedshiftDbGroups": ":".join(request.db_groups),
        "RedshiftDbRoles": ":".join(request.db_roles),
    }
    return tuple((key, value) for key, value in tags.items() if value)


def _minted(response: Any, user: str, password: str, expiry: str) -> Minted:
    expires_at = seconds(member(response, expiry, datetime))
    return member(response, user, str), member(response, password, str), expires_at, request_id(response)


Way = Callable[[Client, MintRequest, float], Minted]

_WAYS: Mapping[str, Way] = {
    "redshift:GetClusterCredentials": _as_db_user,
    "redshift:GetClusterCredentialsWithIAM": _as_iam_identity,
    "redshift-serverless:GetCredentials": _for_workgroup,
    "secretsmanager:GetSecretValue": _admin_secret,
}
WAYS: Mapping[tuple[str, WarehouseKind], tuple[str, Way]] = {
    way: (action, _WAYS[action]) for way, action in MINT.items()
}
"""The IAM action and the function, by way of authenticating and kind of warehouse."""


def resource_arn(request: MintRequest, action: str) -> str:
    """Return the ARN that an IAM policy must name to allow `action`, or several with `and` between them."""
    return " and ".join(each.resource for each in to_mint(request) if each.action == action)
