"""Any field that AWS may leave out is left out, and any status comes: the other warehouses are served as before, and the odd one is
served, refused with the reason, or reported. The fields are those of botocore's models."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from msgspec.structs import replace

from redshift_secrets.aws.client import AwsClient
from redshift_secrets.aws.sessions import Sessions
from redshift_secrets.errors import AwsError
from redshift_secrets.lookup.catalog import listing_from_rows, listing_to_rows
from redshift_secrets.lookup.listing import Listing, build_listing
from redshift_secrets.model import MintRequest, Scope
from redshift_secrets.settings import Settings
from tests.support.fakes import EPOCH
from tests.unit.aws.recall import Memory

REGION, ACCOUNT = "eu-west-1", "123456789012"
SETTINGS = Settings.from_kwargs({"regions": [REGION], "auth": "iam", "allow_admin_secret": True})
SCOPES = {"cluster": Scope("cluster", REGION, None), "workgroup": Scope("workgroup", REGION, None)}
SHAPES = {
    "describe_clusters": ("redshift", "DescribeClusters"),
    "describe_endpoint_access": ("redshift", "DescribeEndpointAccess"),
    "get_cluster_credentials": ("redshift", "GetClusterCredentials"),
    "get_cluster_credentials_with_iam": ("redshift", "GetClusterCredentialsWithIAM"),
    "list_workgroups": ("redshift-serverless", "ListWorkgroups"),
    "get_workgroup": ("redshift-serverless", "GetWorkgroup"),
    "list_namespaces": ("redshift-serverless", "ListNamespaces"),
    "list_endpoint_access": ("redshift-serverless", "ListEndpointAccess"),
    "list_tags_for_resource": ("redshift-serverless", "ListTagsForResource"),
    "get_credentials": ("redshift-serverless", "GetCredentials"),
    "get_resources": ("resourcegroupstaggingapi", "GetResources"),
    "get_secret_value": ("secretsmanager", "GetSecretValue"),
}
MINTS = {
    "get_cluster_credentials": ("db-user", "cluster"),
    "get_cluster_credentials_with_iam": ("iam", "cluster"),
    "get_credentials": ("iam", "workgroup"),
    "get_secret_value": ("secret", "cluster"),
}
LISTS = {
    "describe_clusters": "Clusters",
    "list_workgroups": "workgroups",
}
CREATED = datetime.fromtimestamp(EPOCH - 1000, timezone.utc)


def sample(shape: Any, name: str, number: int, depth: int = 0) -> Any:
    """Return a value with every member of a shape."""
    if shape.type_name == "structure":
        members = shape.members.items() if depth < 6 else ()
        return {member: sample(each, member, number, depth + 1) for member, each in members}
    if shape.type_name == "list":
        return [sample(shape.member, name, number, depth + 1)]
    if shape.type_name == "map":
        return {}
    kinds = {
        "timestamp": CREATED,
        "integer": 5439,
        "long": 1,
        "double": 1.0,
        "float": 1.0,
        "boolean": True,
        "blob": b"x",
    }
    return kinds.get(shape.type_name, f"{name.lower()}-{number}")


def arn(number: int) -> str:
    return f"arn:aws:redshift-serverless:{REGION}:{ACCOUNT}:workgroup/id-{number}"


def tags(number: int, key: str, value: str) -> list[dict[str, str]]:
    return [{key: "airflow:conn-id", value: f"c{number} s{number}"}, {key: f"airflow:auth/s{number}", value: "secret"},
            {key: f"airflow:endpoint/c{number}", value: f"vpc:endpointname-{number}"}]  # fmt: skip


def full_answers() -> dict[str, Any]:
    """Return the answer of each operation with every member, and two resources where it lists; the second is the odd one."""
    answers: dict[str, Any] = {}
    for method, (service, operation) in SHAPES.items():
        shape = boto3.session.Session()._session.get_service_model(service).operation_model(operation).output_shape
        one, two = (sample(shape, method, number) for number in (1, 2))
        answers[method] = {
            name: [*value, *two[name]] if isinstance(value, list) else value for name, value in one.items()
        }
        for token in ("Marker", "nextToken", "PaginationToken"):
            answers[method].pop(token, None)
    for number in (1, 2):
        cluster = answers["describe_clusters"]["Clusters"][number - 1]
        cluster |= {
            "ClusterNamespaceArn": f"arn:aws:redshift:{REGION}:{ACCOUNT}:namespace:n",
            "ClusterStatus": "available",
            "Tags": tags(number, "Key", "Value"),
        }
        answers["describe_endpoint_access"]["EndpointAccessList"][number - 1] |= {
            "ClusterIdentifier": cluster["ClusterIdentifier"],
            "ResourceOwner": ACCOUNT,
        }
        answers["list_workgroups"]["workgroups"][number - 1] |= {
            "workgroupArn": arn(number),
            "workgroupId": f"id-{number}",
        }
        answers["get_resources"]["ResourceTagMappingList"][number - 1] = {
            "ResourceARN": arn(number),
            "Tags": tags(number, "Key", "Value"),
            "ComplianceDetails": {},
        }
    answers["list_tags_for_resource"] = {arn(number): {"tags": tags(number, "key", "value")} for number in (1, 2)}
    answers["get_secret_value"]["SecretString"] = '{"username": "admin", "password": "p"}'
    return answers


FULL = full_answers()


def paths(answer: Any, *before: Any) -> Iterator[tuple[Any, ...]]:
    """Every member of the second resource, at any depth, and every member of an answer that lists nothing."""
    if isinstance(answer, dict):
        for name, value in answer.items():
            yield (*before, name)
            yield from paths(value, *before, name)
    elif isinstance(answer, list):
        numbers = range(len(answer)) if len(before) > 2 else range(1, len(answer))
        for number in numbers:
            yield from paths(answer[number], *before, number)


class Answers:
    """AWS with these answers; an exception is raised."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers

    def __getattr__(self, method: str) -> Any:
        def call(**request: Any) -> Any:
            answer = self.answers[method]
            if isinstance(answer, Exception):
                raise answer
            if "resourceArn" in request:
                return answer[request["resourceArn"]]
            if "ClusterIdentifier" in request and "Clusters" in answer:  # it is asked for one of them
                return {"Clusters": answer["Clusters"][1:]}
            return answer

        return call


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found = copy.deepcopy(FULL)
    fake = Answers(found)
    monkeypatch.setattr(Sessions, "client", lambda *_arguments, **_names: fake)
    monkeypatch.setattr(Sessions, "sts_identity", lambda *_arguments: f"arn:aws:iam::{ACCOUNT}:user/me")
    return found


def listed(kind: str) -> Listing:
    aws = AwsClient(SETTINGS, tagging_patience_seconds=60)
    listing = build_listing(aws.list(SCOPES[kind], Memory()), SETTINGS)
    again = listing_from_rows(listing_to_rows(listing))
    assert again is not None
    assert again.specs == listing.specs
    return listing


def leave_out(answers: Any, path: tuple[Any, ...]) -> None:
    for step in path[:-1]:
        answers = answers[step]
    del answers[path[-1]]


def cases(*methods: str) -> list[Any]:
    found = [path for method in methods for path in paths(FULL[method], method)]
    return [pytest.param(path, id="-".join(map(str, path))) for path in found]


def check_the_others(kind: str, before: Listing, now: Listing) -> None:
    """The first warehouse is served as before; the second is served, refused with a reason, or reported, where its tags are known."""
    for conn_id in ("c1", "s1"):
        assert now.specs[conn_id] == before.specs[conn_id]
        assert now.specs[conn_id][0].errors == ()
    (odd,) = now.specs.get("c2", (None,))
    if odd is None:
        return
    assert odd.address is not None or odd.errors or not odd.warehouse.can_serve or odd.endpoint.startswith("vpc:")
    assert "Error" not in "".join(odd.errors)


@pytest.mark.parametrize("path", cases("describe_clusters", "describe_endpoint_access"))
def test_a_cluster_that_lacks_a_field_hurts_only_itself(answers: dict[str, Any], path: tuple[Any, ...]) -> None:
    before = listed("cluster")
    leave_out(answers, path)
    if path == ("describe_clusters", "Clusters"):
        with pytest.raises(AwsError, match="it has no Clusters") as caught:
            listed("cluster")
        assert caught.value.operation == "redshift:DescribeClusters"
        return
    if path == ("describe_endpoint_access", "EndpointAccessList"):
        now = listed("cluster")
        assert "it has no EndpointAccessList" in now.specs["c1"][0].errors[0]
        assert now.specs["s1"][0].errors == ()
        return
    now = listed("cluster")
    check_the_others("cluster", before, now)
    needed = {"ClusterIdentifier": "gave no ClusterIdentifier", "Endpoint": None}
    why = needed.get(path[-1]) if path[0] == "describe_clusters" and len(path) == 4 else None
    if why is not None:
        assert why in now.specs["c2"][0].errors[0]
        assert any(why in problem for problem in now.problems)


@pytest.mark.parametrize("by_tagging_api", [True, False], ids=["tagging API", "one by one"])
@pytest.mark.parametrize(
    "path",
    cases("list_workgroups", "list_namespaces", "list_endpoint_access", "get_resources", "list_tags_for_resource"),
)
def test_a_workgroup_that_lacks_a_field_hurts_only_itself(
    answers: dict[str, Any], path: tuple[Any, ...], by_tagging_api: bool
) -> None:
    if not by_tagging_api:
        answers["get_resources"] = ClientError({"Error": {"Code": "AccessDenied"}}, "GetResources")
        if path[0] == "get_resources":
            return
    elif path[0] == "list_tags_for_resource":
        return
    before = listed("workgroup")
    if path[0] == "list_tags_for_resource" and path[1] == arn(1):
        path = (path[0], arn(2), *path[2:])
    leave_out(answers, path) if path[1:] not in ((arn(2),),) else None
    if path == ("list_workgroups", "workgroups"):
        with pytest.raises(AwsError, match="it has no workgroups"):
            listed("workgroup")
        return
    if path == ("list_namespaces", "namespaces"):
        now = listed("workgroup")
        assert "its database is not known" in now.specs["c1"][0].errors[0]
        return
    if path == ("list_endpoint_access", "endpoints"):
        now = listed("workgroup")
        assert "it has no endpoints" in now.specs["c1"][0].errors[0]
        assert now.specs["s1"][0].errors == ()
        return
    now = listed("workgroup")
    check_the_others("workgroup", before, now)
    if path[0] == "list_workgroups" and path[-1] == "workgroupName" and len(path) == 4:
        assert "gave no workgroupName" in now.specs["c2"][0].errors[0]
    if path == ("list_tags_for_resource", arn(2), "tags"):
        assert "c2" not in now.specs
        assert any("its tags are not known" in problem and "it has no tags" in problem for problem in now.problems)
    if path[0] == "get_resources" and path[-1] == "ResourceARN":
        assert "there are tags of it" in now.specs["c2"][0].errors[0]


@pytest.mark.parametrize("by_tagging_api", [True, False], ids=["tagging API", "one by one"])
def test_a_workgroup_without_arn_and_id_is_refused_or_reported(answers: dict[str, Any], by_tagging_api: bool) -> None:
    if not by_tagging_api:
        answers["get_resources"] = ClientError({"Error": {"Code": "AccessDenied"}}, "GetResources")
    before = listed("workgroup")
    for name in ("workgroupArn", "workgroupId"):
        del answers["list_workgroups"]["workgroups"][1][name]
    now = listed("workgroup")
    check_the_others("workgroup", before, now)
    assert any("gave no workgroupArn" in problem for problem in now.problems)
    if by_tagging_api:
        assert "there are tags of it" in now.specs["c2"][0].errors[0]


def test_without_namespace_arns_the_account_is_the_callers(answers: dict[str, Any]) -> None:
    before = listed("cluster")
    for cluster in answers["describe_clusters"]["Clusters"]:
        del cluster["ClusterNamespaceArn"]
    assert listed("cluster") == before


def test_where_nobody_says_the_account_all_are_refused_with_that_reason(
    answers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sessions, "sts_identity", lambda *_arguments: None)
    for cluster in answers["describe_clusters"]["Clusters"]:
        del cluster["ClusterNamespaceArn"]
    found = listed("cluster")
    assert "gave no ClusterNamespaceArn, and STS no account" in found.specs["c1"][0].errors[0]
    strict = replace(SETTINGS, allowed_accounts=(ACCOUNT,))
    warehouses = AwsClient(SETTINGS).list(SCOPES["cluster"], Memory())
    assert build_listing(warehouses, strict).specs["c1"][0].errors


@pytest.mark.parametrize("status", ["", "a state of next year", None, "AVAILABLE"])
@pytest.mark.parametrize("kind", ["cluster", "workgroup"])
def test_any_status_may_come(answers: dict[str, Any], kind: str, status: str | None) -> None:
    before = listed(kind)
    odd = answers["describe_clusters"]["Clusters"] if kind == "cluster" else answers["list_workgroups"]["workgroups"]
    odd[1]["ClusterStatus" if kind == "cluster" else "status"] = status
    now = listed(kind)
    check_the_others(kind, before, now)
    assert now.specs["c2"][0].warehouse.can_serve


@pytest.mark.parametrize("path", cases("describe_clusters", "get_workgroup"))
def test_a_direct_look_at_a_warehouse_takes_what_comes(answers: dict[str, Any], path: tuple[Any, ...]) -> None:
    kind = "cluster" if path[0] == "describe_clusters" else "workgroup"
    known = listed(kind).specs["c2"][0].warehouse
    leave_out(answers, path)
    aws = AwsClient(SETTINGS)
    if len(path) == 2:
        with pytest.raises(AwsError, match=f"it has no {path[-1]}"):
            aws.describe(known)
        return
    now = aws.describe(known)
    assert (now.identifier, now.arn, now.account) == (known.identifier, known.arn, known.account)
    assert now.created_at == known.created_at


def test_a_cluster_that_the_answer_does_not_have_is_gone(answers: dict[str, Any]) -> None:
    known = listed("cluster").specs["c2"][0].warehouse
    answers["describe_clusters"]["Clusters"] = []
    with pytest.raises(AwsError) as caught:
        AwsClient(SETTINGS).describe(known)
    assert caught.value.is_gone


@pytest.mark.parametrize(
    "path",
    cases("get_cluster_credentials", "get_cluster_credentials_with_iam", "get_credentials", "get_secret_value"),
)
def test_a_credential_that_lacks_what_a_login_needs_is_refused_and_any_other_is_taken(
    answers: dict[str, Any], path: tuple[Any, ...]
) -> None:
    auth, kind = MINTS[path[0]]
    spec = listed(kind).specs["c1"][0]
    request = replace(MintRequest.of(spec), auth=auth, db_user="etl", admin_secret_arn="arn:x")
    leave_out(answers, path)
    answers["get_secret_value"].pop("SecretBinary", None)
    aws = AwsClient(SETTINGS, clock=lambda: CREATED.timestamp() - 900)
    if path[-1].lower() not in ("dbuser", "dbpassword", "expiration", "secretstring"):
        assert aws.mint(request).user
        return
    with pytest.raises(AwsError, match=f"it has no {path[-1]}") as caught:
        aws.mint(request)
    assert caught.value.code == "UnreadableResponse"


class TestNamespacesThatMayNotBeListed:
    @pytest.fixture(autouse=True)
    def denied(self, answers: dict[str, Any]) -> None:
        answers["list_namespaces"] = ClientError({"Error": {"Code": "AccessDeniedException"}}, "ListNamespaces")

    def test_leave_the_connections_whose_tag_names_the_database(self, answers: dict[str, Any]) -> None:
        answers["get_resources"]["ResourceTagMappingList"][0]["Tags"].append(
            {"Key": "airflow:database/c1", "Value": "dwh"}
        )
        found = listed("workgroup")
        assert (found.specs["c1"][0].database, found.specs["c1"][0].errors) == ("dwh", ())
        for conn_id in ("s1", "c2"):
            assert "Grant redshift-serverless:ListNamespaces" in found.specs[conn_id][0].errors[0]

    def test_leave_all_where_the_setting_names_it(self, answers: dict[str, Any]) -> None:
        settings = replace(SETTINGS, database="dwh")
        specs = build_listing(
            AwsClient(SETTINGS, tagging_patience_seconds=60).list(SCOPES["workgroup"], Memory()), settings
        ).specs
        assert (specs["c1"][0].database, specs["c1"][0].errors) == ("dwh", ())
        assert "its admin secret is not known" in specs["s1"][0].errors[0]


def test_tags_that_may_not_be_read_of_one_workgroup_hurt_only_that(
    answers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = ClientError({"Error": {"Code": "AccessDeniedException"}}, "x")
    answers["get_resources"] = denied
    before = listed("workgroup")
    monkeypatch.setitem(answers["list_tags_for_resource"], arn(2), None)
    now = listed("workgroup")
    check_the_others("workgroup", before, now)
    assert any("its tags are not known" in problem for problem in now.problems)
    answers["list_tags_for_resource"] = denied
    with pytest.raises(AwsError) as caught:
        listed("workgroup")
    assert caught.value.is_denied
