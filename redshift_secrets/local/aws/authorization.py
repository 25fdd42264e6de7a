"""What IAM says to a call, where `warehouses.yaml` has policies: the actions, resources and condition keys that each operation takes.

From the service authorization reference: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonredshift.html
and the pages of the other services. Session policies, permissions boundaries and the policies of organizations are not simulated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from redshift_secrets.local.aws.arns import namespace_arn, namespace_name
from redshift_secrets.local.aws.errors import AwsError, access_denied
from redshift_secrets.local.aws.iam_policies import Document, Request, allowed
from redshift_secrets.local.aws.identity import Caller
from redshift_secrets.local.aws.inventory import Inventory
from redshift_secrets.local.aws.requests import AwsRequest, parse_parameters
from redshift_secrets.local.config import IdentityPolicies

Needed = Iterator[tuple[str, str, dict[str, list[str]]]]
"""Action, resource and the values of condition keys."""

_PREFIXES = {"resourcegroupstaggingapi": "tag"}
_IDENTITY = re.compile(r"arn:aws:iam::\d{12}:(?:user|role)/")
_FREE = ("sts:GetCallerIdentity",)
_KMS_DENIED = "Access to KMS is not allowed"


class Authorization:
    """Who may do what. Without policies everybody may do everything; with some, whoever has none may do nothing."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self.set_policies(())

    def set_policies(self, policies: tuple[IdentityPolicies, ...]) -> None:
        """Have these policies, and no others, from now on; raises `ConfigError` for a document that is no policy."""
        documents = {
            _key(each.identity): [
                Document(document, f"policies, {each.identity}: policies[{number}]")
                for number, document in enumerate(each.documents)
            ]
            for each in policies
        }
        trusts = {
            each.identity: Document(each.trust_policy, f"policies, {each.identity}: trust_policy")
            for each in policies
            if each.trust_policy is not None
        }
        # A session does not say the path of its role, so that is what policies say.
        named = [
            principal for trust in trusts.values() for principal in trust.principals() if _IDENTITY.match(principal)
        ]
        identities = {_key(arn): arn for arn in (*named, *(each.identity for each in policies))}
        self._known = documents, trusts, identities

    def check(self, aws_request: AwsRequest, caller: Caller) -> None:
        """Raise AWS's error for a call that the caller's policies, or those of a role it assumes, do not allow."""
        documents, trusts, identities = self._known
        if not identities or aws_request.name in _FREE:
            return
        params = parse_parameters(aws_request)
        arn = identities.get(_key(caller.arn), caller.arn)
        shared = {
            "aws:requestedregion": [aws_request.region],
            "aws:principalarn": [arn],
            "aws:principalaccount": [caller.account],
            **{f"aws:principaltag/{key}".lower(): [value] for key, value in caller.session_tags.items()},
        }
        principals = (caller.arn, arn, f"arn:aws:iam::{caller.account}:root", caller.account, "*")
        for action, resource, context in self._needed(aws_request, caller, params):
            request = Request(action, resource, {**shared, **context}, principals)
            allows, denies = allowed(documents.get(_key(caller.arn), ()), request)
            trust = trusts.get(resource) if action.startswith("sts:") else None
            if trust is not None:
                effects = trust.effects(request)
                denies = denies or any(effect == "Deny" for effect, _ in effects)
                trusted = {principal for effect, principal in effects if effect == "Allow"}
                # A trust policy that names an identity of its own account needs no other.
                by_name = bool(trusted & {caller.arn, arn}) and caller.account == resource.split(":")[4]
                allows = bool(trusted) and (allows or by_name)
            if denies or not allows:
                raise self._denied(aws_request, caller, action, resource, denies)

    @staticmethod
    def _denied(aws_request: AwsRequest, caller: Caller, action: str, resource: str, explicit: bool) -> AwsError:
        if action == "kms:Decrypt":
            return AwsError("AccessDeniedException", _KMS_DENIED)
        because = "with an explicit deny in an identity-based policy" if explicit else None
        if because is None and not action.startswith("sts:"):
            because = f"because no identity-based policy allows the {action} action"
        return access_denied(aws_request.protocol, caller.arn, action, resource, because)

    def _needed(self, aws_request: AwsRequest, caller: Caller, params: Mapping[str, Any]) -> Needed:
        service, _, operation = aws_request.name.partition(":")
        action = f"{_PREFIXES.get(service, service)}:{operation}"
        base = f"arn:aws:{service}:{aws_request.region}:{caller.account}"
        scope = caller.account, aws_request.region
        if service == "redshift":
            yield from self._of_redshift(action, operation, base, scope, params)
        elif service == "redshift-serverless":
            yield from self._of_serverless(action, operation, base, scope, params)
        elif service == "sts":
            yield from _of_sts(action, caller, params)
        elif service == "secretsmanager":
            yield from self._of_secrets(action, aws_request.region, params)
        else:
            yield action, "*", {}

    def _of_redshift(
        self, action: str, operation: str, base: str, scope: tuple[str, str], params: Mapping[str, Any]
    ) -> Needed:
        if operation in ("DescribeEndpointAccess", "DescribeCustomDomainAssociations"):
            yield action, "*", {}
            return
        if operation.startswith("GetClusterCredentials"):
            yield from self._of_minting(action, operation, base, scope, params)
            return
        resource = params.get("ResourceName") or f"{base}:cluster:{params.get('ClusterIdentifier', '*')}"
        tags = {tag.get("Key", ""): tag.get("Value", "") for tag in params.get("Tags", ())}
        yield action, resource, {**self._tags_of(resource), **_request_tags(tags, params.get("TagKeys", ()))}

    def _of_minting(
        self, action: str, operation: str, base: str, scope: tuple[str, str], params: Mapping[str, Any]
    ) -> Needed:
        domain, user, database = (params.get(name) for name in ("CustomDomainName", "DbUser", "DbName"))
        found = (
            each.config.identifier for each in self._inventory.clusters(scope) if each.config.custom_domain == domain
        )
        cluster = params.get("ClusterIdentifier") or next(found, "*")
        values = {
            "redshift:dbuser": user,
            "redshift:dbname": database,
            "redshift:durationseconds": params.get("DurationSeconds"),
        }
        context = {key: [str(value)] for key, value in values.items() if value is not None}
        if operation == "GetClusterCredentials":
            yield action, f"{base}:dbuser:{cluster}/{user}", context
            if params.get("AutoCreate"):
                yield "redshift:CreateClusterUser", f"{base}:dbuser:{cluster}/{user}", context
            for group in params.get("DbGroups", ()):
                yield "redshift:JoinGroup", f"{base}:dbgroup:{cluster}/{group}", context
        if database is not None or operation == "GetClusterCredentialsWithIAM":
            yield action, f"{base}:dbname:{cluster}/{database or '*'}", context

    def _of_serverless(
        self, action: str, operation: str, base: str, scope: tuple[str, str], params: Mapping[str, Any]
    ) -> Needed:
        if operation in ("ListWorkgroups", "ListNamespaces"):
            yield action, "*", {}
            return
        resource = params.get("resourceArn", f"{base}:workgroup/*")
        groups = self._inventory.workgroups(scope)
        if operation in ("GetWorkgroup", "GetCredentials"):
            name, domain = params.get("workgroupName"), params.get("customDomainName")
            named = (
                each.arn
                for each in groups
                if name in (None, each.config.name) and domain in (None, each.config.custom_domain)
            )
            resource = next(named, resource)
        elif operation == "GetNamespace":
            own = (
                namespace_arn(each.config) for each in groups if namespace_name(each.config) == params["namespaceName"]
            )
            resource = next(own, f"{base}:namespace/*")
        elif operation.endswith("EndpointAccess"):
            resource = f"{base}:managedvpcendpoint/*"
        tags = {tag["key"]: tag["value"] for tag in params.get("tags", ())}
        yield action, resource, {**self._tags_of(resource), **_request_tags(tags, params.get("tagKeys", ()))}

    def _of_secrets(self, action: str, region: str, params: Mapping[str, Any]) -> Needed:
        secret = params.get("SecretId", "*")
        yield action, secret, {}
        key = self._inventory.secret_keys().get(secret)
        if action == "secretsmanager:GetSecretValue" and key is not None:
            context = {
                "kms:viaservice": f"secretsmanager.{region}.amazonaws.com",
                "kms:encryptioncontext:secretarn": secret,
            }
            yield "kms:Decrypt", key, {name: [value] for name, value in context.items()}

    def _tags_of(self, arn: str) -> dict[str, list[str]]:
        tags = next((state.tags for state in self._inventory.all() if state.arn == arn), {})
        return {f"aws:resourcetag/{key}".lower(): [value] for key, value in tags.items()}


def _of_sts(action: str, caller: Caller, params: Mapping[str, Any]) -> Needed:
    role = params.get("RoleArn", "*")
    tags = {tag["Key"]: tag["Value"] for tag in params.get("Tags", ())}
    source = params.get("SourceIdentity") or caller.source_identity
    context = {
        **_request_tags(tags),
        **{
            key: [value]
            for key, value in {
                "sts:externalid": params.get("ExternalId"),
                "sts:rolesessionname": params.get("RoleSessionName"),
                "sts:sourceidentity": source,
            }.items()
            if value
        },
    }
    yield action, role, context
    if tags:
        yield "sts:TagSession", role, context
    if source:
        yield "sts:SetSourceIdentity", role, context
    if params.get("ProvidedContexts"):
        yield "sts:SetContext", role, context


def _request_tags(tags: Mapping[str, str], removed: Any = ()) -> dict[str, list[str]]:
    keys = [*tags, *removed]
    found = {f"aws:requesttag/{key}".lower(): [value] for key, value in tags.items()}
    return {**found, "aws:tagkeys": keys} if keys else found


def _key(arn: str) -> tuple[str, str]:
    """What a session of a role has in common with the role's ARN, which has a path: account and name."""
    parts = arn.split(":")
    kind, *names = parts[5].split("/")
    return parts[4], arn if kind == "user" else (names[0] if kind == "assumed-role" else names[-1])
