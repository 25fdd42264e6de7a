"""Reads and writes the tags of one warehouse, which need not have any yet."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from redshift_secrets.aws import described
from redshift_secrets.aws.errors import member, translate_errors
from redshift_secrets.aws.sessions import Sessions
from redshift_secrets.errors import AwsError
from redshift_secrets.model import Scope, Warehouse
from redshift_secrets.settings import Settings

_SERVICES = {"cluster": "redshift", "workgroup": "redshift-serverless"}
_IDENTIFIERS = {"cluster": "[a-z0-9-]{1,63}", "workgroup": "[a-z0-9-]{3,64}"}
"""What botocore takes; one command may look for the same name among both kinds."""


class Tagging:
    """AWS, called as the identities that the settings name. Every method may raise `AwsError`."""

    def __init__(self, settings: Settings) -> None:
        self._sessions = Sessions(settings)

    def default_region(self) -> str:
        """Return the region of the settings, the environment or the profile."""
        return self._sessions.default_region()

    def find(self, name: str, scope: Scope) -> Warehouse | None:
        """Return the warehouse of this identifier or ARN with its tags, `None` where the scope has none. Of a workgroup, the
        database is not read."""
        service = _SERVICES[scope.kind]
        is_arn = name.startswith("arn:")
        if is_arn and name.split(":")[2:4] != [service, scope.region]:
            return None
        identifier = name.rpartition(":")[2] if is_arn and scope.kind == "cluster" else name.lower()
        if not is_arn and not re.fullmatch(_IDENTIFIERS[scope.kind], identifier):
            return None
        try:
            fields = (
                self._cluster(identifier, scope)
                if scope.kind == "cluster"
                else self._workgroup(name if is_arn else identifier, scope)
            )
        except AwsError as error:
            if error.is_gone:
                return None
            raise
        if fields is None or (is_arn and fields["arn"] != name):
            return None
        return Warehouse(kind=scope.kind, region=scope.region, role_arn=scope.role_arn, **fields)

    def set(self, warehouse: Warehouse, tags: Mapping[str, str]) -> None:
        """Set these tags, of which there is at least one."""
        if warehouse.kind == "cluster":
            pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
            self._call(warehouse, "redshift:CreateTags", "create_tags", ResourceName=warehouse.arn, Tags=pairs)
        else:
            pairs = [{"key": key, "value": value} for key, value in tags.items()]
            self._call(
                warehouse, "redshift-serverless:TagResource", "tag_resource", resourceArn=warehouse.arn, tags=pairs
            )

    def remove(self, warehouse: Warehouse, keys: Iterable[str]) -> None:
        """Remove the tags with these keys, of which there is at least one."""
        if warehouse.kind == "cluster":
            self._call(warehouse, "redshift:DeleteTags", "delete_tags", ResourceName=warehouse.arn, TagKeys=list(keys))
        else:
            action = "redshift-serverless:UntagResource"
            self._call(warehouse, action, "untag_resource", resourceArn=warehouse.arn, tagKeys=list(keys))

    def _call(self, warehouse: Warehouse, action: str, method: str, **arguments: Any) -> None:
        with translate_errors(action, warehouse.arn, self._sessions.expected_identity(warehouse.role_arn)):
            service = action.partition(":")[0]
            client = self._sessions.client(service, region=warehouse.region, role_arn=warehouse.role_arn)
            getattr(client, method)(**arguments)

    def _cluster(self, name: str, scope: Scope) -> dict[str, Any] | None:
        identity = self._sessions.expected_identity(scope.role_arn)
        with translate_errors("redshift:DescribeClusters", f"cluster {name} in {scope.region}", identity):
            client = self._sessions.client("redshift", region=scope.region, role_arn=scope.role_arn)
            account = functools.partial(self._sessions.account, scope.region, scope.role_arn)
            found = described.clusters(client.describe_clusters(ClusterIdentifier=name), scope.region, account)
        return next((fields for fields in found if fields["identifier"] == name and not fields["unknown"]), None)

    def _workgroup(self, name: str, scope: Scope) -> dict[str, Any] | None:
        """By its ARN it is only found in the list of all."""
        identity = self._sessions.expected_identity(scope.role_arn)
        client = functools.partial(
            self._sessions.client, "redshift-serverless", region=scope.region, role_arn=scope.role_arn
        )
        read = functools.partial(described.workgroups, region=scope.region, caller_account=lambda: None)
        if name.startswith("arn:"):
            with translate_errors("redshift-serverless:ListWorkgroups", f"workgroups in {scope.region}", identity):
                pages = client().get_paginator("list_workgroups").paginate()
                found = [each for page in pages for each in read(page)]
        else:
            with translate_errors("redshift-serverless:GetWorkgroup", f"workgroup {name} in {scope.region}", identity):
                answer = client().get_workgroup(workgroupName=name)
                found = read({"workgroups": [member(answer, "workgroup", dict)]})
        wanted = (each for each in found if name in (each["arn"], each["identifier"]) and not each["unknown"])
        fields = next(wanted, None)
        if fields is None:
            return None
        with translate_errors("redshift-serverless:ListTagsForResource", fields["arn"], identity):
            tags = described.tags_of_resource(client().list_tags_for_resource(resourceArn=fields["arn"]))
        fields.pop("namespace")
        return {**fields, "database": "dev", "tags": tags}
