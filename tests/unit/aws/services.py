"""What the services that list warehouses answer, without a network."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from botocore.exceptions import ClientError

from tests.support.fakes import EPOCH
from tests.support.helpers import BOUND
from tests.unit.aws.recall import ProcessEndsError

CREATED = datetime.fromtimestamp(EPOCH - 1000.25, timezone.utc)
NAMESPACE_ARN = "arn:aws:redshift:eu-west-1:123456789012:namespace:7f3c"
TOKENS = ("Marker", "nextToken", "PaginationToken")


def workgroup_arn(name: str) -> str:
    return f"arn:aws:redshift-serverless:eu-west-1:123456789012:workgroup/{name}"


def cluster(name: str, **tags: str) -> dict[str, Any]:
    return {
        "ClusterIdentifier": name,
        "ClusterNamespaceArn": NAMESPACE_ARN,
        "ClusterStatus": "available",
        "ClusterCreateTime": CREATED,
        "DBName": "sales",
        "Endpoint": {"Address": f"{name}.example", "Port": 5439},
        "CustomDomainName": f"{name}.corp",
        "MasterPasswordSecretArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:x",
        "Tags": [{"Key": "airflow:conn-id", "Value": name}, *({"Key": k, "Value": v} for k, v in tags.items())],
    }


def workgroup(name: str) -> dict[str, Any]:
    return {
        "workgroupName": name,
        "workgroupArn": workgroup_arn(name),
        "namespaceName": f"{name}-data",
        "status": "AVAILABLE",
        "creationDate": CREATED,
        "endpoint": {"address": f"{name}.example", "port": 5439},
    }


class FakeAws:
    """AWS by operation: an exception, a response, or the pages of a listing. `calls` has (operation, token or ARN)."""

    def __init__(self) -> None:
        private = {"Key": "airflow:endpoint", "Value": "vpc:private"}
        mappings = [
            {"ResourceARN": workgroup_arn(name), "Tags": [{"Key": "airflow:conn-id", "Value": name}, private]}
            for name in ("w1", "w3")
        ]
        self.answers: dict[str, Any] = {
            "describe_clusters": [
                {"Clusters": [cluster("c1", **{"airflow:endpoint": "vpc:private"}), cluster("c2")]},
                {"Clusters": [cluster("c3")]},
                {"Clusters": [cluster("c4")]},
            ],
            "describe_endpoint_access": [
                {"EndpointAccessList": [self.endpoint("c2")]},
                {"EndpointAccessList": [self.endpoint("c1"), {"ClusterIdentifier": "c1", "EndpointName": "creating"}]},
            ],
            "get_resources": [{"ResourceTagMappingList": [each]} for each in mappings],
            "list_workgroups": [{"workgroups": [workgroup("w1"), workgroup("w2")]}, {"workgroups": [workgroup("w3")]}],
            "list_namespaces": [
                {"namespaces": [{"namespaceName": "w1-data", "dbName": "sales", "adminPasswordSecretArn": "arn:x"}]},
                {"namespaces": [{"namespaceName": "w3-data"}]},
            ],
            "list_endpoint_access": [
                {"endpoints": [{"workgroupName": "w1", "endpointName": "private", "address": "w1-private", "port": 5}]},
                {"endpoints": [{"workgroupName": "w3", "endpointName": "creating"}]},
            ],
            "list_tags_for_resource": {
                workgroup_arn(name): {"tags": [{"key": f"airflow:{key}", "value": name}]}
                for name, key in (("w1", "conn-id"), ("w2", "team"), ("w3", "conn-id"))
            },
        }
        self.calls: list[tuple[str, str | None]] = []
        self.requests: dict[str, dict[str, Any]] = {}
        self.ends_after: int | None = None
        self.hears = threading.Event()
        self.hears.set()

    @staticmethod
    def endpoint(name: str, owner: str = "123456789012", address: str | None = None) -> dict[str, Any]:
        return {
            "ClusterIdentifier": name,
            "ResourceOwner": owner,
            "EndpointName": "private",
            "Address": address or f"{name}-private",
            "Port": 5,
        }

    def deny(self, operation: str, caller: str | None = None) -> None:
        error = {"Error": {"Code": "AccessDeniedException", "Message": "not authorized"}}
        self.answers[operation] = ClientError(error, caller or operation)

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def call(**request: Any) -> Any:
            token = next((request.pop(name) for name in TOKENS if name in request), None)
            if len(self.calls) == self.ends_after:
                raise ProcessEndsError
            self.calls.append((operation, token or request.get("resourceArn")))
            self.requests[operation] = request
            if operation == "get_resources":
                assert self.hears.wait(BOUND)
            answer = self.answers[operation]
            if isinstance(answer, dict):
                answer = answer[request["resourceArn"]]
            if isinstance(answer, Exception):
                raise answer
            return self.page(operation, answer, token) if isinstance(answer, list) else answer

        return call

    @staticmethod
    def page(operation: str, pages: list[Any], token: str | None) -> dict[str, Any]:
        number = int(token or 0)
        name = {"get": "PaginationToken", "list": "nextToken"}.get(operation.split("_")[0], "Marker")
        # The tagging API says with an empty token that there is no further page, the others with none.
        end = {"PaginationToken": ""} if name == "PaginationToken" else {}
        return {**pages[number], **({name: str(number + 1)} if number + 1 < len(pages) else end)}

    def asked(self, operation: str) -> list[str | None]:
        return [token for name, token in self.calls if name == operation]
