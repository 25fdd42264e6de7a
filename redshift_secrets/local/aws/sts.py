"""AWS STS: AssumeRole and GetCallerIdentity. https://docs.aws.amazon.com/STS/latest/APIReference/welcome.html"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from redshift_secrets.local.aws.errors import AwsError, access_denied
from redshift_secrets.local.aws.identity import Identities, caller_from_arn
from redshift_secrets.local.aws.inventory import to_datetime
from redshift_secrets.local.aws.requests import Call
from redshift_secrets.local.config import ConfigError, Role

Result = dict[str, Any]

_PACKED_SIZE = 1024
"""Characters of session tags and policies that fit into a session. AWS does not say how many do: it compresses them."""
_CHAINED_SECONDS = 3600
_ROLE_ARN = re.compile(r"arn:aws:iam::\d{12}:role/(?:[^/]+/)*[\w+=,.@-]+")


class Sts:
    """AssumeRole for the configured roles, by any caller that sends their external id, and GetCallerIdentity. Session tags
    need a role that may be tagged.

    Raises `ConfigError` for a role with an invalid ARN.
    """

    def __init__(self, roles: tuple[Role, ...], identities: Identities) -> None:
        for role in roles:
            if not _ROLE_ARN.fullmatch(role.arn):
                raise ConfigError(f"role {role.arn!r}: the arn must look like arn:aws:iam::123456789012:role/name")
        self._roles = {role.arn: role for role in roles}
        self._identities = identities
        self.operations: dict[str, Callable[[Call], Result]] = {
            "AssumeRole": self._assume_role,
            "GetCallerIdentity": self._get_caller_identity,
        }

    def _assume_role(self, call: Call) -> Result:
        arn = call.params["RoleArn"]
        role = self._roles.get(arn)
        if role is None or (role.external_id is not None and role.external_id != call.params.get("ExternalId")):
            # AWS sends the same message if the role is missing, does not trust the caller or requires an external id.
            raise _denied(call, "sts:AssumeRole", arn)
        tags = _session_tags(call)
        if tags and not role.tag_session:
            raise _denied(call, "sts:TagSession", arn)
        seconds = call.params.get("DurationSeconds", 3600)
        if seconds > _CHAINED_SECONDS and ":assumed-role/" in call.caller.arn:
            raise AwsError(
                "ValidationError",
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
            )
        session = call.params["RoleSessionName"]
        account, name = arn.split(":")[4], arn.rpartition("/")[2]
        source = call.params.get("SourceIdentity") or call.caller.source_identity
        caller = caller_from_arn(f"arn:aws:sts::{account}:assumed-role/{name}/{session}", tags, source)
        key = self._identities.add(caller, duration=seconds)
        if key.expires_at is None:
            raise TypeError("the key of an assumed role must expire")
        return {
            "Credentials": {
                "AccessKeyId": key.key_id,
                "SecretAccessKey": key.secret,
                "SessionToken": key.session_token,
                "Expiration": to_datetime(key.expires_at),
            },
            "AssumedRoleUser": {"AssumedRoleId": caller.user_id, "Arn": caller.arn},
        }

    def _get_caller_identity(self, call: Call) -> Result:
        return {"UserId": call.caller.user_id, "Account": call.caller.account, "Arn": call.caller.arn}


def _session_tags(call: Call) -> dict[str, str]:
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html"""
    tags = {tag["Key"]: tag["Value"] for tag in call.params.get("Tags", [])}
    if len({key.lower() for key in tags}) < len(call.params.get("Tags", [])):
        raise AwsError(
            "InvalidParameterValue", "Duplicate tag keys found. Please note that Tag keys are case insensitive."
        )
    packed = sum(len(key) + len(value) for key, value in tags.items()) + len(call.params.get("Policy", ""))
    if packed > _PACKED_SIZE:
        percent = 100 * packed // _PACKED_SIZE
        raise AwsError("PackedPolicyTooLarge", f"Packed size of session tags consumes {percent}% of allotted space.")
    return tags


def _denied(call: Call, action: str, arn: str) -> AwsError:
    return access_denied("query", call.caller.arn, action, arn, None)
