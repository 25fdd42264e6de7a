"""Amazon Redshift Serverless. https://docs.aws.amazon.com/redshift-serverless/latest/APIReference/Welcome.html"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from redshift_secrets.local.aws.arns import certificate_arn, namespace_arn, namespace_name, stable_uuid
from redshift_secrets.local.aws.endpoints import EndpointDirectory
from redshift_secrets.local.aws.errors import AwsError
from redshift_secrets.local.aws.inventory import Inventory, WarehouseState, to_datetime
from redshift_secrets.local.aws.minting import mint_for_identity
from redshift_secrets.local.aws.paging import BadMarkerError, page
from redshift_secrets.local.aws.redshift import VPC
from redshift_secrets.local.aws.requests import Call
from redshift_secrets.local.aws.resource_tags import tags_problem
from redshift_secrets.local.config import Workgroup
from redshift_secrets.local.tokens import TokenRegistry

Result = dict[str, Any]
Item = TypeVar("Item")


class Serverless:
    """The operations of `redshift-serverless`: each returns the members of the response, or raises `AwsError`."""

    def __init__(self, inventory: Inventory, endpoints: EndpointDirectory, tokens: TokenRegistry) -> None:
        self._inventory = inventory
        self._endpoints = endpoints
        self._tokens = tokens
        self.operations: dict[str, Callable[[Call], Result]] = {
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

    def describe(self, state: WarehouseState[Workgroup]) -> Result:
        """Return a workgroup as GetWorkgroup does."""
        group = state.config
        described: Result = {
            "workgroupName": group.name,
            "workgroupArn": state.arn,
            "workgroupId": state.arn.rpartition("/")[2],
            "namespaceName": namespace_name(group),
            "status": state.status,
            "creationDate": state.created,
            "baseCapacity": 8,
            "publiclyAccessible": False,
            "enhancedVpcRouting": False,
        }
        address = self._endpoints.address_of(state.arn, "default")
        if address is not None and state.status != "CREATING":
            described["endpoint"] = {"address": address[0], "port": address[1]}
            described["port"] = address[1]
        if group.custom_domain:
            described["customDomainName"] = group.custom_domain
            described["customDomainCertificateArn"] = certificate_arn(group)
        return described

    def describe_namespace(self, state: WarehouseState[Workgroup]) -> Result:
        """Return the namespace of a workgroup as GetNamespace does."""
        group = state.config
        described: Result = {
            "namespaceName": namespace_name(group),
            "namespaceArn": namespace_arn(group),
            "namespaceId": namespace_arn(group).rpartition("/")[2],
            "status": "AVAILABLE",
            "creationDate": state.created,
            "dbName": group.database.name,
            "adminUsername": group.admin_username,
        }
        if state.secret_arn is None:
            return described
        key = {} if group.secret_kms_key_id is None else {"adminPasswordSecretKmsKeyId": group.secret_kms_key_id}
        return {**described, "adminPasswordSecretArn": state.secret_arn, **key}

    def _list_workgroups(self, call: Call) -> Result:
        owns = call.params.get("ownerAccount", call.scope[0]) == call.scope[0]
        groups = self._inventory.workgroups(call.scope) if owns else []
        chosen, token = _page(call, groups, lambda state: state.config.name)
        return {"workgroups": [self.describe(state) for state in chosen], **token}

    def _get_workgroup(self, call: Call) -> Result:
        return {"workgroup": self.describe(self._workgroup(call, call.params["workgroupName"]))}

    def _list_namespaces(self, call: Call) -> Result:
        groups = sorted(self._inventory.workgroups(call.scope), key=_namespace_name)
        chosen, token = _page(call, groups, _namespace_name)
        return {"namespaces": [self.describe_namespace(state) for state in chosen], **token}

    def _get_namespace(self, call: Call) -> Result:
        name = call.params["namespaceName"]
        for state in self._inventory.workgroups(call.scope):
            if namespace_name(state.config) == name:
                return {"namespace": self.describe_namespace(state)}
        raise _not_found("Namespace", name)

    def _list_tags_for_resource(self, call: Call) -> Result:
        tags = self._find_by_arn(call).tags
        return {"tags": [{"key": key, "value": value} for key, value in sorted(tags.items())]}

    def _tag_resource(self, call: Call) -> Result:
        state = self._find_by_arn(call)
        tags = {tag["key"]: tag["value"] for tag in call.params["tags"]}
        problem = tags_problem(tags)
        if problem is not None:
            raise AwsError("ValidationException", problem)
        if not self._inventory.change_tags(state.arn, add=tags):
            raise AwsError("TooManyTagsException", "The resource has too many tags.", resourceName=state.arn)
        return {}

    def _untag_resource(self, call: Call) -> Result:
        self._inventory.change_tags(self._find_by_arn(call).arn, remove=call.params["tagKeys"])
        return {}

    def _get_credentials(self, call: Call) -> Result:
        token = mint_for_identity(
            self._tokens,
            self._resolve(call).arn,
            user=call.caller.database_user,
            groups=call.caller.tagged("RedshiftDbRoles"),
            database=call.params.get("dbName"),
            duration=call.params.get("durationSeconds"),
            code="ValidationException",
        )
        if token.expires_at is None:
            raise TypeError("a temporary password must expire")
        expiration = to_datetime(token.expires_at)
        return {
            "dbUser": token.user,
            "dbPassword": token.password,
            "expiration": expiration,
            "nextRefreshTime": expiration,
        }

    def _list_endpoint_access(self, call: Call) -> Result:
        wanted = call.params.get("workgroupName")
        groups = [self._workgroup(call, wanted)] if wanted else self._inventory.workgroups(call.scope)
        found = [(state, name) for state in groups for name in state.config.vpc_endpoints]
        owns = call.params.get("ownerAccount", call.scope[0]) == call.scope[0]
        if not owns or call.params.get("vpcId", VPC) != VPC:
            found = []
        chosen, token = _page(call, sorted(found, key=_endpoint_sort_key), _endpoint_sort_key)
        return {"endpoints": [self._endpoint(state, name) for state, name in chosen], **token}

    def _get_endpoint_access(self, call: Call) -> Result:
        wanted = call.params["endpointName"]
        for state in self._inventory.workgroups(call.scope):
            if wanted in state.config.vpc_endpoints:
                return {"endpoint": self._endpoint(state, wanted)}
        raise _not_found("Endpoint", wanted)

    def _endpoint(self, state: WarehouseState[Workgroup], name: str) -> Result:
        group = state.config
        uuid = stable_uuid(state.arn, name)
        address = self._endpoints.address_of(state.arn, f"vpc:{name}")
        described: Result = {
            "endpointName": name,
            "endpointArn": f"arn:aws:redshift-serverless:{group.region}:{group.account}:managedvpcendpoint/{uuid}",
            "endpointStatus": "CREATING" if address is None else "ACTIVE",
            "endpointCreateTime": state.created,
            "workgroupName": group.name,
            "vpcEndpoint": {"vpcEndpointId": f"vpce-{uuid[-12:]}", "vpcId": VPC},
        }
        return described if address is None else {**described, "address": address[0], "port": address[1]}

    def _workgroup(self, call: Call, name: str) -> WarehouseState[Workgroup]:
        for state in self._inventory.workgroups(call.scope):
            if state.config.name == name:
                return state
        raise _not_found("Workgroup", name)

    def _find_by_arn(self, call: Call) -> WarehouseState[Workgroup]:
        arn = call.params["resourceArn"]
        for state in self._inventory.workgroups(call.scope):
            if state.arn == arn:
                return state
        raise _not_found("Resource", arn)

    def _resolve(self, call: Call) -> WarehouseState[Workgroup]:
        name, domain = call.params.get("workgroupName"), call.params.get("customDomainName")
        if not name and not domain:
            raise AwsError("ValidationException", "workgroupName or customDomainName must be specified.")
        for state in self._inventory.workgroups(call.scope):
            if name in (None, state.config.name) and domain in (None, state.config.custom_domain):
                if state.status in ("CREATING", "DELETING"):
                    raise AwsError("ValidationException", f"Workgroup {state.config.name} is {state.status}.")
                return state
        raise _not_found("Workgroup", str(name or domain))


def _page(call: Call, items: Sequence[Item], name: Callable[[Item], str]) -> tuple[list[Item], Result]:
    try:
        chosen, token = page(items, name, call.params.get("maxResults", 100), call.params.get("nextToken"))
    except BadMarkerError as error:
        raise AwsError("ValidationException", "The nextToken is invalid.") from error
    return chosen, {"nextToken": token} if token else {}


def _not_found(kind: str, name: str) -> AwsError:
    return AwsError("ResourceNotFoundException", f"{kind} {name} not found.", resourceName=name)


def _namespace_name(state: WarehouseState[Workgroup]) -> str:
    return namespace_name(state.config)


def _endpoint_sort_key(endpoint: tuple[WarehouseState[Workgroup], str]) -> str:
    return f"{endpoint[0].config.name}\n{endpoint[1]}"
