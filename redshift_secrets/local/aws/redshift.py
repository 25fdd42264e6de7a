"""Amazon Redshift, provisioned clusters. https://docs.aws.amazon.com/redshift/latest/APIReference/Welcome.html"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from redshift_secrets.local.aws.arns import certificate_arn, namespace_arn, stable_uuid
from redshift_secrets.local.aws.endpoints import EndpointDirectory
from redshift_secrets.local.aws.errors import AwsError
from redshift_secrets.local.aws.inventory import Inventory, WarehouseState, to_datetime
from redshift_secrets.local.aws.minting import mint_for_db_user, mint_for_identity
from redshift_secrets.local.aws.paging import BadMarkerError, page
from redshift_secrets.local.aws.requests import Call
from redshift_secrets.local.aws.resource_tags import matches_any, tags_problem
from redshift_secrets.local.config import Cluster
from redshift_secrets.local.tokens import Token, TokenRegistry

Result = dict[str, Any]
Item = TypeVar("Item")

VPC = "vpc-0123456789abcdef0"
_UNAVAILABLE_STATES = ("creating", "deleting", "final-snapshot")


class Redshift:
    """The operations of `redshift`. Each takes a call and returns the members of the response, or raises `AwsError`."""

    def __init__(self, inventory: Inventory, endpoints: EndpointDirectory, tokens: TokenRegistry) -> None:
        self._inventory = inventory
        self._endpoints = endpoints
        self._tokens = tokens
        self.operations: dict[str, Callable[[Call], Result]] = {
            "DescribeClusters": self._describe_clusters,
            "DescribeTags": self._describe_tags,
            "CreateTags": self._create_tags,
            "DeleteTags": self._delete_tags,
            "PauseCluster": self._pause_cluster,
            "ResumeCluster": self._resume_cluster,
            "DeleteCluster": self._delete_cluster,
            "GetClusterCredentials": self._get_cluster_credentials,
            "GetClusterCredentialsWithIAM": self._get_cluster_credentials_with_iam,
            "DescribeEndpointAccess": self._describe_endpoint_access,
            "DescribeCustomDomainAssociations": self._describe_custom_domain_associations,
        }

    def describe(self, state: WarehouseState[Cluster]) -> Result:
        """Return a cluster as DescribeClusters does."""
        cluster = state.config
        described: Result = {
            "ClusterIdentifier": cluster.identifier,
            "NodeType": "ra3.large",
            "NumberOfNodes": 1,
            "ClusterStatus": state.status,
            "ClusterAvailabilityStatus": _availability(state.status),
            "MasterUsername": cluster.master_username,
            "DBName": cluster.database.name,
            "ClusterCreateTime": state.created,
            "ClusterVersion": "1.0",
            "PubliclyAccessible": False,
            "Encrypted": True,
            "VpcId": VPC,
            "ClusterNamespaceArn": namespace_arn(cluster),
            "Tags": [{"Key": key, "Value": value} for key, value in sorted(state.tags.items())],
        }
        address = self._endpoints.address_of(state.arn, "default")
        if address is not None and state.status != "creating":
            described["Endpoint"] = {"Address": address[0], "Port": address[1]}
        if cluster.custom_domain:
            described["CustomDomainName"] = cluster.custom_domain
            described["CustomDomainCertificateArn"] = certificate_arn(cluster)
        if state.secret_arn is not None:
            described["MasterPasswordSecretArn"] = state.secret_arn
            if cluster.secret_kms_key_id is not None:
                described["MasterPasswordSecretKmsKeyId"] = cluster.secret_kms_key_id
        return described

    def _describe_clusters(self, call: Call) -> Result:
        if "ClusterIdentifier" in call.params:
            if call.params.get("Marker"):
                raise AwsError("InvalidParameterValue", "ClusterIdentifier and Marker cannot be used together.")
            return {"Clusters": [self.describe(self._cluster(call, call.params["ClusterIdentifier"]))]}
        keys, values = call.params.get("TagKeys", []), call.params.get("TagValues", [])
        clusters = [state for state in self._inventory.clusters(call.scope) if matches_any(state.tags, keys, values)]
        chosen, marker = _page(call, clusters, lambda state: state.config.identifier, (20, 100, 100))
        return {"Clusters": [self.describe(state) for state in chosen], **marker}

    def _describe_tags(self, call: Call) -> Result:
        resource = call.params.get("ResourceName")
        kind = call.params.get("ResourceType")
        if resource and (kind or "MaxRecords" in call.params or call.params.get("Marker")):
            raise AwsError(
                "InvalidParameterValue", "ResourceName cannot be used together with ResourceType, MaxRecords or Marker."
            )
        if kind and kind.lower() != "cluster":
            return {"TaggedResources": []}
        clusters = [self._find_by_arn(call, resource)] if resource else self._inventory.clusters(call.scope)
        keys, values = call.params.get("TagKeys", []), call.params.get("TagValues", [])
        found = [
            {"ResourceName": state.arn, "ResourceType": "Cluster", "Tag": {"Key": key, "Value": value}}
            for state in clusters
            for key, value in sorted(state.tags.items())
            if matches_any({key: value}, keys, values)
        ]
        if resource:
            return {"TaggedResources": found}
        found.sort(key=_tag_sort_key)
        chosen, marker = _page(call, found, _tag_sort_key, (10, 50, 50))
        return {"TaggedResources": chosen, **marker}

    def _create_tags(self, call: Call) -> Result:
        state = self._find_by_arn(call, call.params["ResourceName"])
        tags = {tag.get("Key", ""): tag.get("Value", "") for tag in call.params["Tags"]}
        problem = tags_problem(tags)
        if problem is not None:
            raise AwsError("InvalidTagFault", problem)
        if not self._inventory.change_tags(state.arn, add=tags):
            raise AwsError("TagLimitExceededFault", "You have exceeded the number of tags allowed.")
        return {}

    def _delete_tags(self, call: Call) -> Result:
        state = self._find_by_arn(call, call.params["ResourceName"])
        self._inventory.change_tags(state.arn, remove=call.params["TagKeys"])
        return {}

    def _pause_cluster(self, call: Call) -> Result:
        return self._change_state(call, needs="available", becomes="paused")

    def _resume_cluster(self, call: Call) -> Result:
        return self._change_state(call, needs="paused", becomes="available")

    def _delete_cluster(self, call: Call) -> Result:
        # In AWS this takes some minutes, and meanwhile the cluster is listed as `deleting`; here it is gone at once.
        state = self._cluster(call, call.params["ClusterIdentifier"])
        if not call.params.get("SkipFinalClusterSnapshot") and not call.params.get("FinalClusterSnapshotIdentifier"):
            raise AwsError(
                "InvalidParameterCombination",
                "FinalClusterSnapshotIdentifier is required unless SkipFinalClusterSnapshot is specified.",
            )
        self._inventory.set_status(state.arn, "deleting")
        described = self.describe(self._cluster(call, state.config.identifier))
        self._inventory.remove(state.arn)
        return {"Cluster": described}

    def _change_state(self, call: Call, *, needs: str, becomes: str) -> Result:
        state = self._cluster(call, call.params["ClusterIdentifier"])
        if state.status != needs:
            name = state.config.identifier
            raise AwsError("InvalidClusterState", f"The cluster {name} is {state.status}, it must be {needs}.")
        self._inventory.set_status(state.arn, becomes)
        return {"Cluster": self.describe(self._cluster(call, state.config.identifier))}

    def _get_cluster_credentials(self, call: Call) -> Result:
        token = mint_for_db_user(
            self._tokens,
            self._resolve(call).arn,
            db_user=call.params["DbUser"],
            auto_create=call.params.get("AutoCreate", False),
            db_groups=call.params.get("DbGroups", []),
            database=call.params.get("DbName"),
            duration=call.params.get("DurationSeconds"),
        )
        return _credentials(token)

    def _get_cluster_credentials_with_iam(self, call: Call) -> Result:
        token = mint_for_identity(
            self._tokens,
            self._resolve(call).arn,
            user=call.caller.database_user,
            groups=call.caller.tagged("RedshiftDbGroups"),
            database=call.params.get("DbName"),
            duration=call.params.get("DurationSeconds"),
            code="ValidationError",
        )
        credentials = _credentials(token)
        return {**credentials, "NextRefreshTime": credentials["Expiration"]}

    def _describe_endpoint_access(self, call: Call) -> Result:
        wanted = call.params.get("ClusterIdentifier")
        clusters = [self._cluster(call, wanted)] if wanted else self._inventory.clusters(call.scope)
        found = [(state, name) for state in clusters for name in state.config.vpc_endpoints]
        named = call.params.get("EndpointName")
        if named:
            found = [(state, name) for state, name in found if name == named]
            if not found:
                raise AwsError("EndpointNotFound", f"Endpoint {named} not found.")
        if call.params.get("VpcId", VPC) != VPC or call.params.get("ResourceOwner", call.scope[0]) != call.scope[0]:
            found = []
        chosen, marker = _page(call, sorted(found, key=_endpoint_sort_key), _endpoint_sort_key, (20, 100, 100))
        return {"EndpointAccessList": [self._endpoint(state, name) for state, name in chosen], **marker}

    def _endpoint(self, state: WarehouseState[Cluster], name: str) -> Result:
        address = self._endpoints.address_of(state.arn, f"vpc:{name}")
        described: Result = {
            "ClusterIdentifier": state.config.identifier,
            "ResourceOwner": state.config.account,
            "EndpointName": name,
            "EndpointStatus": "creating" if address is None else "active",
            "EndpointCreateTime": state.created,
            "VpcEndpoint": {"VpcEndpointId": f"vpce-{stable_uuid(state.arn, name)[-12:]}", "VpcId": VPC},
        }
        return described if address is None else {**described, "Address": address[0], "Port": address[1]}

    def _describe_custom_domain_associations(self, call: Call) -> Result:
        domain, certificate = call.params.get("CustomDomainName"), call.params.get("CustomDomainCertificateArn")
        found = [
            state
            for state in self._inventory.clusters(call.scope)
            if state.config.custom_domain
            and domain in (None, state.config.custom_domain)
            and certificate in (None, certificate_arn(state.config))
        ]
        if domain and not found:
            raise AwsError("CustomDomainAssociationNotFoundFault", f"Custom domain {domain} not found.")
        chosen, marker = _page(call, found, lambda state: state.config.identifier, (20, 100, 100))
        return {"Associations": [_association(state.config) for state in chosen], **marker}

    def _cluster(self, call: Call, identifier: str) -> WarehouseState[Cluster]:
        for state in self._inventory.clusters(call.scope):
            if state.config.identifier == identifier:
                return state
        raise AwsError("ClusterNotFound", f"Cluster {identifier} not found.")

    def _find_by_arn(self, call: Call, arn: str) -> WarehouseState[Cluster]:
        for state in self._inventory.clusters(call.scope):
            if state.arn == arn:
                return state
        raise AwsError("ResourceNotFoundFault", f"The resource {arn} could not be found.")

    def _resolve(self, call: Call) -> WarehouseState[Cluster]:
        identifier, domain = call.params.get("ClusterIdentifier"), call.params.get("CustomDomainName")
        if not identifier and not domain:
            raise AwsError("ValidationError", "ClusterIdentifier or CustomDomainName must be specified.")
        for state in self._inventory.clusters(call.scope):
            if identifier in (None, state.config.identifier) and domain in (None, state.config.custom_domain):
                if state.status in _UNAVAILABLE_STATES:
                    raise AwsError("UnsupportedOperation", f"Cluster {state.config.identifier} is {state.status}.")
                return state
        raise AwsError("ClusterNotFound", f"Cluster {identifier or domain} not found.")


def _page(
    call: Call, items: Sequence[Item], name: Callable[[Item], str], limits: tuple[int, int, int]
) -> tuple[list[Item], Result]:
    minimum, maximum, default = limits
    size = call.params.get("MaxRecords", default)
    if not minimum <= size <= maximum:
        raise AwsError("InvalidParameterValue", f"MaxRecords must be between {minimum} and {maximum}, is {size}.")
    try:
        chosen, marker = page(items, name, size, call.params.get("Marker"))
    except BadMarkerError as error:
        raise AwsError("InvalidParameterValue", "The Marker is invalid.") from error
    return chosen, {"Marker": marker} if marker else {}


def _tag_sort_key(tagged: Result) -> str:
    return f"{tagged['ResourceName']}\n{tagged['Tag']['Key']}"


def _endpoint_sort_key(endpoint: tuple[WarehouseState[Cluster], str]) -> str:
    return f"{endpoint[0].config.identifier}\n{endpoint[1]}"


def _association(cluster: Cluster) -> Result:
    pair = {"CustomDomainName": cluster.custom_domain, "ClusterIdentifier": cluster.identifier}
    return {"CustomDomainCertificateArn": certificate_arn(cluster), "CertificateAssociations": [pair]}


def _credentials(token: Token) -> Result:
    if token.expires_at is None:
        raise TypeError("a temporary password must expire")
    return {"DbUser": token.user, "DbPassword": token.password, "Expiration": to_datetime(token.expires_at)}


def _availability(status: str) -> str:
    if status.startswith("available"):
        return "Available"
    if status in ("modifying", "resizing", "renaming", "rotating-keys", "updating-hsm"):
        return "Modifying"
    return "Failed" if status.startswith(("hardware-failure", "incompatible-")) else "Unavailable"
