"""Amazon Redshift, provisioned clusters. https://docs.aws.amazon.com/redshift/latest/APIReference/Welcome.html"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from redshift_secrets.local.aws.arns import certificate_arn, namespace_arn, stable_uuid
from redshift_secrets.local.aws.endpoints import EndpointDirectory
from redshift_secrets.local.aws.errors import AwsError
from redshift_secrets.local.aws.inventory import Inventory, Live, moment
from redshift_secrets.local.aws.minting import mint_for_db_user, mint_for_identity
from redshift_secrets.local.aws.paging import BadMarkerError, page
from redshift_secrets.local.aws.requests import Call
from redshift_secrets.local.aws.resource_tags import matches_any, tags_problem
from redshift_secrets.local.config import Cluster
from redshift_secrets.local.tokens import Token, TokenRegistry

Answer = dict[str, Any]
Item = TypeVar("Item")

VPC = "vpc-0123456789abcdef0"
_NOT_THERE = ("creating", "deleting", "final-snapshot")


class Redshift:
    """The operations of `redshift`: a call in, the members of AWS's answer out, `AwsError` where AWS says no."""

    def __init__(self, inventory: Inventory, endpoints: EndpointDirectory, tokens: TokenRegistry) -> None:
        self._inventory = inventory
        self._endpoints = endpoints
        self._tokens = tokens
        self.operations: dict[str, Callable[[Call], Answer]] = {
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

    def describe(self, live: Live[Cluster]) -> Answer:
        """A cluster as DescribeClusters shows it."""
        cluster = live.config
        described: Answer = {
            "ClusterIdentifier": cluster.identifier,
            "NodeType": "ra3.large",
            "NumberOfNodes": 1,
            "ClusterStatus": live.status,
            "ClusterAvailabilityStatus": _availability(live.status),
            "MasterUsername": cluster.master_username,
            "DBName": cluster.database.name,
            "ClusterCreateTime": live.created,
            "ClusterVersion": "1.0",
            "PubliclyAccessible": False,
            "Encrypted": True,
            "VpcId": VPC,
            "ClusterNamespaceArn": namespace_arn(cluster),
            "Tags": [{"Key": key, "Value": value} for key, value in sorted(live.tags.items())],
        }
        address = self._endpoints.address_of(live.arn, "default")
        if address is not None and live.status != "creating":
            described["Endpoint"] = {"Address": address[0], "Port": address[1]}
        if cluster.custom_domain:
            described["CustomDomainName"] = cluster.custom_domain
            described["CustomDomainCertificateArn"] = certificate_arn(cluster)
        if live.secret_arn is not None:
            described["MasterPasswordSecretArn"] = live.secret_arn
        return described

    def _describe_clusters(self, call: Call) -> Answer:
        if "ClusterIdentifier" in call.params:
            if call.params.get("Marker"):
                raise AwsError("InvalidParameterValue", "ClusterIdentifier and Marker cannot be used together.")
            return {"Clusters": [self.describe(self._cluster(call, call.params["ClusterIdentifier"]))]}
        keys, values = call.params.get("TagKeys", []), call.params.get("TagValues", [])
        clusters = [live for live in self._inventory.clusters(call.scope) if matches_any(live.tags, keys, values)]
        chosen, marker = _page(call, clusters, lambda live: live.config.identifier, (20, 100, 100))
        return {"Clusters": [self.describe(live) for live in chosen], **marker}

    def _describe_tags(self, call: Call) -> Answer:
        resource = call.params.get("ResourceName")
        kind = call.params.get("ResourceType")
        if resource and (kind or "MaxRecords" in call.params or call.params.get("Marker")):
            raise AwsError(
                "InvalidParameterValue", "ResourceName cannot be used together with ResourceType, MaxRecords or Marker."
            )
        if kind and kind.lower() != "cluster":
            return {"TaggedResources": []}
        clusters = [self._tagged(call, resource)] if resource else self._inventory.clusters(call.scope)
        keys, values = call.params.get("TagKeys", []), call.params.get("TagValues", [])
        found = [
            {"ResourceName": live.arn, "ResourceType": "Cluster", "Tag": {"Key": key, "Value": value}}
            for live in clusters
            for key, value in sorted(live.tags.items())
            if matches_any({key: value}, keys, values)
        ]
        if resource:
            return {"TaggedResources": found}
        found.sort(key=_tag_position)
        chosen, marker = _page(call, found, _tag_position, (10, 50, 50))
        return {"TaggedResources": chosen, **marker}

    def _create_tags(self, call: Call) -> Answer:
        live = self._tagged(call, call.params["ResourceName"])
        tags = {tag.get("Key", ""): tag.get("Value", "") for tag in call.params["Tags"]}
        problem = tags_problem(tags)
        if problem is not None:
            raise AwsError("InvalidTagFault", problem)
        if not self._inventory.change_tags(live.arn, add=tags):
            raise AwsError("TagLimitExceededFault", "You have exceeded the number of tags allowed.")
        return {}

    def _delete_tags(self, call: Call) -> Answer:
        live = self._tagged(call, call.params["ResourceName"])
        self._inventory.change_tags(live.arn, remove=call.params["TagKeys"])
        return {}

    def _pause_cluster(self, call: Call) -> Answer:
        return self._switch(call, needs="available", becomes="paused")

    def _resume_cluster(self, call: Call) -> Answer:
        return self._switch(call, needs="paused", becomes="available")

    def _delete_cluster(self, call: Call) -> Answer:
        # AWS takes some minutes, in which the cluster can be seen to be `deleting`; here it is gone at once.
        live = self._cluster(call, call.params["ClusterIdentifier"])
        if not call.params.get("SkipFinalClusterSnapshot") and not call.params.get("FinalClusterSnapshotIdentifier"):
            raise AwsError(
                "InvalidParameterCombination",
                "FinalClusterSnapshotIdentifier is required unless SkipFinalClusterSnapshot is specified.",
            )
        self._inventory.set_status(live.arn, "deleting")
        described = self.describe(self._cluster(call, live.config.identifier))
        self._inventory.remove(live.arn)
        return {"Cluster": described}

    def _switch(self, call: Call, *, needs: str, becomes: str) -> Answer:
        live = self._cluster(call, call.params["ClusterIdentifier"])
        if live.status != needs:
            name = live.config.identifier
            raise AwsError("InvalidClusterState", f"The cluster {name} is {live.status}, it must be {needs}.")
        self._inventory.set_status(live.arn, becomes)
        return {"Cluster": self.describe(self._cluster(call, live.config.identifier))}

    def _get_cluster_credentials(self, call: Call) -> Answer:
        token = mint_for_db_user(
            self._tokens,
            self._reachable(call).arn,
            db_user=call.params["DbUser"],
            auto_create=call.params.get("AutoCreate", False),
            db_groups=call.params.get("DbGroups", []),
            database=call.params.get("DbName"),
            duration=call.params.get("DurationSeconds"),
        )
        return _credentials(token)

    def _get_cluster_credentials_with_iam(self, call: Call) -> Answer:
        token = mint_for_identity(
            self._tokens,
            self._reachable(call).arn,
            user=call.caller.database_user,
            database=call.params.get("DbName"),
            duration=call.params.get("DurationSeconds"),
            code="ValidationError",
        )
        credentials = _credentials(token)
        return {**credentials, "NextRefreshTime": credentials["Expiration"]}

    def _describe_endpoint_access(self, call: Call) -> Answer:
        wanted = call.params.get("ClusterIdentifier")
        clusters = [self._cluster(call, wanted)] if wanted else self._inventory.clusters(call.scope)
        found = [(live, name) for live in clusters for name in live.config.vpc_endpoints]
        named = call.params.get("EndpointName")
        if named:
            found = [(live, name) for live, name in found if name == named]
            if not found:
                raise AwsError("EndpointNotFound", f"Endpoint {named} not found.")
        if call.params.get("VpcId", VPC) != VPC or call.params.get("ResourceOwner", call.scope[0]) != call.scope[0]:
            found = []
        chosen, marker = _page(call, sorted(found, key=_endpoint_position), _endpoint_position, (20, 100, 100))
        return {"EndpointAccessList": [self._endpoint(live, name) for live, name in chosen], **marker}

    def _endpoint(self, live: Live[Cluster], name: str) -> Answer:
        address = self._endpoints.address_of(live.arn, f"vpc:{name}")
        described: Answer = {
            "ClusterIdentifier": live.config.identifier,
            "ResourceOwner": live.config.account,
            "EndpointName": name,
            "EndpointStatus": "creating" if address is None else "active",
            "EndpointCreateTime": live.created,
            "VpcEndpoint": {"VpcEndpointId": f"vpce-{stable_uuid(live.arn, name)[-12:]}", "VpcId": VPC},
        }
        return described if address is None else {**described, "Address": address[0], "Port": address[1]}

    def _describe_custom_domain_associations(self, call: Call) -> Answer:
        domain, certificate = call.params.get("CustomDomainName"), call.params.get("CustomDomainCertificateArn")
        found = [
            live
            for live in self._inventory.clusters(call.scope)
            if live.config.custom_domain
            and domain in (None, live.config.custom_domain)
            and certificate in (None, certificate_arn(live.config))
        ]
        if domain and not found:
            raise AwsError("CustomDomainAssociationNotFoundFault", f"Custom domain {domain} not found.")
        chosen, marker = _page(call, found, lambda live: live.config.identifier, (20, 100, 100))
        return {"Associations": [_association(live.config) for live in chosen], **marker}

    def _cluster(self, call: Call, identifier: str) -> Live[Cluster]:
        for live in self._inventory.clusters(call.scope):
            if live.config.identifier == identifier:
                return live
        raise AwsError("ClusterNotFound", f"Cluster {identifier} not found.")

    def _tagged(self, call: Call, arn: str) -> Live[Cluster]:
        for live in self._inventory.clusters(call.scope):
            if live.arn == arn:
                return live
        raise AwsError("ResourceNotFoundFault", f"The resource {arn} could not be found.")

    def _reachable(self, call: Call) -> Live[Cluster]:
        identifier, domain = call.params.get("ClusterIdentifier"), call.params.get("CustomDomainName")
        if not identifier and not domain:
            raise AwsError("ValidationError", "ClusterIdentifier or CustomDomainName must be specified.")
        for live in self._inventory.clusters(call.scope):
            if identifier in (None, live.config.identifier) and domain in (None, live.config.custom_domain):
                if live.status in _NOT_THERE:
                    raise AwsError("UnsupportedOperation", f"Cluster {live.config.identifier} is {live.status}.")
                return live
        raise AwsError("ClusterNotFound", f"Cluster {identifier or domain} not found.")


def _page(
    call: Call, items: Sequence[Item], name: Callable[[Item], str], limits: tuple[int, int, int]
) -> tuple[list[Item], Answer]:
    least, most, default = limits
    size = call.params.get("MaxRecords", default)
    if not least <= size <= most:
        raise AwsError("InvalidParameterValue", f"MaxRecords must be between {least} and {most}, is {size}.")
    try:
        chosen, marker = page(items, name, size, call.params.get("Marker"))
    except BadMarkerError as error:
        raise AwsError("InvalidParameterValue", "The Marker is not one that a page ended with.") from error
    return chosen, {"Marker": marker} if marker else {}


def _tag_position(tagged: Answer) -> str:
    return f"{tagged['ResourceName']}\n{tagged['Tag']['Key']}"


def _endpoint_position(endpoint: tuple[Live[Cluster], str]) -> str:
    return f"{endpoint[0].config.identifier}\n{endpoint[1]}"


def _association(cluster: Cluster) -> Answer:
    pair = {"CustomDomainName": cluster.custom_domain, "ClusterIdentifier": cluster.identifier}
    return {"CustomDomainCertificateArn": certificate_arn(cluster), "CertificateAssociations": [pair]}


def _credentials(token: Token) -> Answer:
    if token.expires_at is None:
        raise TypeError("a temporary password must expire")
    return {"DbUser": token.user, "DbPassword": token.password, "Expiration": moment(token.expires_at)}


def _availability(status: str) -> str:
    if status.startswith("available"):
        return "Available"
    if status in ("modifying", "resizing", "renaming", "rotating-keys", "updating-hsm"):
        return "Modifying"
    return "Failed" if status.startswith(("hardware-failure", "incompatible-")) else "Unavailable"
