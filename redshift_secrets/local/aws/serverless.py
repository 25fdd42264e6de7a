"""Amazon Redshift Serverless. https://docs.aws.amazon.com/redshift-serverless/latest/APIReference/Welcome.html"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from redshift_secrets.local.aws.arns import certificate_arn, namespace_arn, namespace_name, stable_uuid
from redshift_secrets.local.aws.endpoints import EndpointDirectory
from redshift_secrets.local.aws.errors import AwsError
from redshift_secrets.local.aws.inventory import Inventory, Live, moment
from redshift_secrets.local.aws.minting import mint_for_identity
from redshift_secrets.local.aws.paging import BadMarkerError, page
from redshift_secrets.local.aws.redshift import VPC
from redshift_secrets.local.aws.requests import Call
from redshift_secrets.local.aws.resource_tags import tags_problem
from redshift_secrets.local.config import Workgroup
from redshift_secrets.local.tokens import TokenRegistry

Answer = dict[str, Any]
Item = TypeVar("Item")


class Serverless:
    """The operations of `redshift-serverless`: a call in, the members of AWS's answer out, or `AwsError`."""

    def __init__(self, inventory: Inventory, endpoints: EndpointDirectory, tokens: TokenRegistry) -> None:
        self._inventory = inventory
        self._endpoints = endpoints
        self._tokens = tokens
        self.operations: dict[str, Callable[[Call], Answer]] = {
            "ListWorkgroups": self._list_workgroups,
            "GetWorkgroup": self._get_workgroup,
            "ListNamespaces": self._list_namespaces,
            "GetNamespace": self._get_namespace,
            "ListTagsForResource": self._list_tags_for_resource,
            "TagResource": self._tag_resource,
            "UntagResource": self._untag_resource,
            "GetCredentials": self._get_credentials,
            "ListEndpointAccess": self._list_endpoint_access,
            "GetEndpointAccess": self._get_endpoint_access,
        }

    def describe(self, live: Live[Workgroup]) -> Answer:
        """A workgroup as GetWorkgroup shows it."""
        group = live.config
        described: Answer = {
            "workgroupName": group.name,
            "workgroupArn": live.arn,
            "workgroupId": live.arn.rpartition("/")[2],
            "namespaceName": namespace_name(group),
            "status": live.status,
            "creationDate": live.created,
            "baseCapacity": 8,
            "publiclyAccessible": False,
            "enhancedVpcRouting": False,
        }
        address = self._endpoints.address_of(live.arn, "default")
        if address is not None and live.status != "CREATING":
            described["endpoint"] = {"address": address[0], "port": address[1]}
            described["port"] = address[1]
        if group.custom_domain:
            described["customDomainName"] = group.custom_domain
            described["customDomainCertificateArn"] = certificate_arn(group)
        return described

    def describe_namespace(self, live: Live[Workgroup]) -> Answer:
        """The namespace of a workgroup as GetNamespace shows it."""
        group = live.config
        described: Answer = {
            "namespaceName": namespace_name(group),
            "namespaceArn": namespace_arn(group),
            "namespaceId": namespace_arn(group).rpartition("/")[2],
            "status": "AVAILABLE",
            "creationDate": live.created,
            "dbName": group.database.name,
            "adminUsername": group.admin_username,
        }
        return described if live.secret_arn is None else {**described, "adminPasswordSecretArn": live.secret_arn}

    def _list_workgroups(self, call: Call) -> Answer:
        mine = call.params.get("ownerAccount", call.scope[0]) == call.scope[0]
        groups = self._inventory.workgroups(call.scope) if mine else []
        chosen, token = _page(call, groups, lambda live: live.config.name)
        return {"workgroups": [self.describe(live) for live in chosen], **token}

    def _get_workgroup(self, call: Call) -> Answer:
        return {"workgroup": self.describe(self._workgroup(call, call.params["workgroupName"]))}

    def _list_namespaces(self, call: Call) -> Answer:
        groups = sorted(self._inventory.workgroups(call.scope), key=_namespace_of)
        chosen, token = _page(call, groups, _namespace_of)
        return {"namespaces": [self.describe_namespace(live) for live in chosen], **token}

    def _get_namespace(self, call: Call) -> Answer:
        name = call.params["namespaceName"]
        for live in self._inventory.workgroups(call.scope):
            if namespace_name(live.config) == name:
                return {"namespace": self.describe_namespace(live)}
        raise _not_found("Namespace", name)

    def _list_tags_for_resource(self, call: Call) -> Answer:
        tags = self._tagged(call).tags
        return {"tags": [{"key": key, "value": value} for key, value in sorted(tags.items())]}

    def _tag_resource(self, call: Call) -> Answer:
        live = self._tagged(call)
        tags = {tag["key"]: tag["value"] for tag in call.params["tags"]}
        problem = tags_problem(tags)
        if problem is not None:
            raise AwsError("ValidationException", problem)
        if not self._inventory.change_tags(live.arn, add=tags):
            raise AwsError("TooManyTagsException", "The resource has too many tags.", resourceName=live.arn)
        return {}

    def _untag_resource(self, call: Call) -> Answer:
        self._inventory.change_tags(self._tagged(call).arn, remove=call.params["tagKeys"])
        return {}

    def _get_credentials(self, call: Call) -> Answer:
        token = mint_for_identity(
            self._tokens,
            self._reachable(call).arn,
            user=call.caller.database_user,
            database=call.params.get("dbName"),
            duration=call.params.get("durationSeconds"),
            code="ValidationException",
        )
        if token.expires_at is None:
            raise TypeError("a temporary password must expire")
        dies = moment(token.expires_at)
        return {"dbUser": token.user, "dbPassword": token.password, "expiration": dies, "nextRefreshTime": dies}

    def _list_endpoint_access(self, call: Call) -> Answer:
        wanted = call.params.get("workgroupName")
        groups = [self._workgroup(call, wanted)] if wanted else self._inventory.workgroups(call.scope)
        found = [(live, name) for live in groups for name in live.config.vpc_endpoints]
        mine = call.params.get("ownerAccount", call.scope[0]) == call.scope[0]
        if not mine or call.params.get("vpcId", VPC) != VPC:
            found = []
        chosen, token = _page(call, sorted(found, key=_endpoint_position), _endpoint_position)
        return {"endpoints": [self._endpoint(live, name) for live, name in chosen], **token}

    def _get_endpoint_access(self, call: Call) -> Answer:
        wanted = call.params["endpointName"]
        for live in self._inventory.workgroups(call.scope):
            if wanted in live.config.vpc_endpoints:
                return {"endpoint": self._endpoint(live, wanted)}
        raise _not_found("Endpoint", wanted)

    def _endpoint(self, live: Live[Workgroup], name: str) -> Answer:
        group = live.config
        identity = stable_uuid(live.arn, name)
        address = self._endpoints.address_of(live.arn, f"vpc:{name}")
        described: Answer = {
            "endpointName": name,
            "endpointArn": f"arn:aws:redshift-serverless:{group.region}:{group.account}:managedvpcendpoint/{identity}",
            "endpointStatus": "CREATING" if address is None else "ACTIVE",
            "endpointCreateTime": live.created,
            "workgroupName": group.name,
            "vpcEndpoint": {"vpcEndpointId": f"vpce-{identity[-12:]}", "vpcId": VPC},
        }
        return described if address is None else {**described, "address": address[0], "port": address[1]}

    def _workgroup(self, call: Call, name: str) -> Live[Workgroup]:
        for live in self._inventory.workgroups(call.scope):
            if live.config.name == name:
                return live
        raise _not_found("Workgroup", name)

    def _tagged(self, call: Call) -> Live[Workgroup]:
        arn = call.params["resourceArn"]
        for live in self._inventory.workgroups(call.scope):
            if live.arn == arn:
                return live
        raise _not_found("Resource", arn)

    def _reachable(self, call: Call) -> Live[Workgroup]:
        name, domain = call.params.get("workgroupName"), call.params.get("customDomainName")
        if not name and not domain:
            raise AwsError("ValidationException", "workgroupName or customDomainName must be specified.")
        for live in self._inventory.workgroups(call.scope):
            if name in (None, live.config.name) and domain in (None, live.config.custom_domain):
                if live.status in ("CREATING", "DELETING"):
                    raise AwsError("ValidationException", f"Workgroup {live.config.name} is {live.status}.")
                return live
        raise _not_found("Workgroup", str(name or domain))


def _page(call: Call, items: Sequence[Item], name: Callable[[Item], str]) -> tuple[list[Item], Answer]:
    try:
        chosen, token = page(items, name, call.params.get("maxResults", 100), call.params.get("nextToken"))
    except BadMarkerError as error:
        raise AwsError("ValidationException", "The nextToken is not one that a page ended with.") from error
    return chosen, {"nextToken": token} if token else {}


def _not_found(what: str, name: str) -> AwsError:
    return AwsError("ResourceNotFoundException", f"{what} {name} not found.", resourceName=name)


def _namespace_of(live: Live[Workgroup]) -> str:
    return namespace_name(live.config)


def _endpoint_position(endpoint: tuple[Live[Workgroup], str]) -> str:
    return f"{endpoint[0].config.name}\n{endpoint[1]}"
