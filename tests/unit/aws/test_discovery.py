"""Discovery: what a listing returns, what it asks for, and how the next process continues one that was cut."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError

from redshift_secrets.aws.client import AwsClient
from redshift_secrets.aws.discovery import Discovery
from redshift_secrets.aws.paging import ask_aws
from redshift_secrets.aws.sessions import Sessions
from redshift_secrets.errors import AwsError
from redshift_secrets.model import Scope, VpcEndpoint
from redshift_secrets.settings import Settings
from tests.support.fakes import EPOCH
from tests.support.helpers import BOUND
from tests.unit.aws.recall import Memory, ProcessEndsError
from tests.unit.aws.services import NAMESPACE_ARN, FakeAws, workgroup_arn

REGION = "eu-west-1"
CLUSTERS, WORKGROUPS = Scope("cluster", REGION, None), Scope("workgroup", REGION, None)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> FakeAws:
    fake = FakeAws()
    monkeypatch.setattr(Sessions, "client", lambda *_arguments, **_names: fake)
    return fake


@pytest.fixture
def client(aws: FakeAws) -> AwsClient:
    return AwsClient(Settings.from_kwargs({"regions": [REGION]}), tagging_patience_seconds=BOUND)


@pytest.fixture
def silent(aws: FakeAws) -> Iterator[threading.Event]:
    """Until it is set, the tagging API does not answer."""
    aws.hears.clear()
    yield aws.hears
    aws.hears.set()


class TestClusters:
    def test_are_listed_with_everything_that_a_connection_needs(self, aws: FakeAws, client: AwsClient) -> None:
        found = client.list(CLUSTERS, ask_aws)
        assert [each.identifier for each in found] == ["c1", "c2", "c3", "c4"]
        first = found[0]
        assert first.arn == "arn:aws:redshift:eu-west-1:123456789012:cluster:c1"
        assert (first.account, first.region, first.status) == ("123456789012", REGION, "available")
        assert (first.host, first.port, first.database) == ("c1.example", 5439, "sales")
        assert (first.custom_domain, first.created_at) == ("c1.corp", EPOCH - 1000.25)
        assert first.admin_secret_arn == "arn:aws:secretsmanager:eu-west-1:123456789012:secret:x"
        assert first.tags == {"airflow:conn-id": "c1", "airflow:endpoint": "vpc:private"}
        assert first.vpc_endpoints == (VpcEndpoint("private", "c1-private", 5),)
        assert found[2].vpc_endpoints == ()

    def test_come_a_hundred_at_a_time(self, aws: FakeAws, client: AwsClient) -> None:
        client.list(CLUSTERS, ask_aws)
        assert aws.requests["describe_clusters"] == {"MaxRecords": 100}
        assert aws.asked("describe_clusters") == [None, "1", "2"]

    @pytest.mark.parametrize(
        "key", ["airflow:con-id", "Airflow:conn-id", "AIRFLOW:team", "airflow:", "airflow:db-user/x"]
    )
    def test_any_tag_under_the_prefix_counts_and_no_other(self, aws: FakeAws, client: AwsClient, key: str) -> None:
        pages = aws.answers["describe_clusters"]
        for page, tags in zip(pages, ([key], ["airflow-conn-id", "conn-id", "env"], []), strict=True):
            for raw in page["Clusters"]:
                raw["Tags"] = [{"Key": each, "Value": "vpc:private"} for each in tags]
        found = client.list(CLUSTERS, ask_aws)
        assert [each.identifier for each in found] == [raw["ClusterIdentifier"] for raw in pages[0]["Clusters"]]
        assert [dict(each.tags) for each in found] == [{key: "vpc:private"}] * len(found)

    def test_a_tag_without_the_marker_causes_no_further_call(self, aws: FakeAws, client: AwsClient) -> None:
        for page in aws.answers["describe_clusters"]:
            for raw in page["Clusters"]:
                raw["Tags"] = [{"Key": "airflow:endpoint", "Value": "vpc:private"}]
        client.list(CLUSTERS, ask_aws)
        assert {operation for operation, _ in aws.calls} == {"describe_clusters"}

    def test_an_item_that_is_nothing_hurts_no_other(self, aws: FakeAws, client: AwsClient) -> None:
        aws.answers["describe_clusters"][0]["Clusters"].insert(0, None)
        aws.answers["describe_clusters"][0]["Clusters"][1]["Tags"].insert(0, None)
        assert [each.identifier for each in client.list(CLUSTERS, Memory())] == ["c1", "c2", "c3", "c4"]

    def test_that_are_being_created_are_younger_than_all_others(self, aws: FakeAws, client: AwsClient) -> None:
        tag = {"Key": "airflow:conn-id", "Value": "new"}
        raw = {
            "ClusterIdentifier": "new",
            "ClusterNamespaceArn": NAMESPACE_ARN,
            "ClusterStatus": "creating",
            "Tags": [tag],
        }
        aws.answers["describe_clusters"] = [{"Clusters": [raw]}]
        for recall in (ask_aws, Memory()):
            (found,) = client.list(CLUSTERS, recall)
            assert (found.created_at, found.host, found.port, found.database) == (float("inf"), None, None, "dev")

    def test_a_listing_that_was_cut_is_continued(self, aws: FakeAws, client: AwsClient) -> None:
        memory = Memory()
        aws.ends_after = 2
        with pytest.raises(ProcessEndsError):
            client.list(CLUSTERS, memory)
        aws.ends_after, aws.calls = None, []
        found = client.list(CLUSTERS, memory)
        assert aws.asked("describe_clusters") == ["2"]
        assert found == client.list(CLUSTERS, ask_aws)

    @pytest.mark.attempt("put a VPC endpoint of another account in a warehouse's place")
    def test_vpc_endpoints_of_another_accounts_cluster_of_the_same_name_are_not_theirs(
        self, aws: FakeAws, client: AwsClient
    ) -> None:
        others = [self.foreign("c1", "000000000001"), self.foreign("c2", "210987654321")]
        aws.answers["describe_endpoint_access"].insert(0, {"EndpointAccessList": others})
        aws.answers["describe_endpoint_access"].append({"EndpointAccessList": others})
        found = client.list(CLUSTERS, ask_aws)
        assert [each.host for one in found for each in one.vpc_endpoints] == ["c1-private", "c2-private"]
        assert aws.requests["describe_endpoint_access"]["ResourceOwner"] == "123456789012"
        assert client.describe(found[0]).vpc_endpoints == found[0].vpc_endpoints

    @staticmethod
    def foreign(name: str, owner: str) -> dict[str, Any]:
        return FakeAws.endpoint(name, owner, f"{name}-of-{owner}")

    def test_vpc_endpoints_that_cannot_be_listed_leave_the_others(self, aws: FakeAws, client: AwsClient) -> None:
        aws.deny("describe_endpoint_access")
        found = client.list(CLUSTERS, Memory())
        assert [each.identifier for each in found] == ["c1", "c2", "c3", "c4"]
        assert "redshift:DescribeEndpointAccess on every VPC endpoint in eu-west-1" in found[0].unknown["vpc_endpoints"]


class TestEndpointsOfTheCallersAccount:
    """A warehouse of another account may have managed VPC endpoints in that of Airflow: only the caller itself sees them."""

    ROLE = "arn:aws:iam::123456789012:role/remote"

    @pytest.fixture
    def own(self, aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> FakeAws:
        """AWS as the caller itself sees it; `aws` is what the role sees."""
        own = FakeAws()
        monkeypatch.setattr(
            Sessions, "client", lambda _self, _service, *, region, role_arn, tags: own if role_arn is None else aws
        )
        aws.answers["describe_endpoint_access"] = [{"EndpointAccessList": []}]
        aws.answers["list_endpoint_access"] = [{"endpoints": []}]
        return own

    @pytest.fixture
    def listed(self, client: AwsClient, own: FakeAws) -> Callable[[str], Any]:
        return lambda kind: client.list(Scope(kind, REGION, self.ROLE), Memory())[0]  # type: ignore[arg-type]

    @pytest.mark.parametrize(("kind", "host"), [("cluster", "c1-private"), ("workgroup", "w1-private")])
    def test_are_found(self, own: FakeAws, listed: Callable[[str], Any], kind: str, host: str) -> None:
        own.answers["describe_endpoint_access"] = [{"EndpointAccessList": [FakeAws.endpoint("c1")]}]
        found = listed(kind)
        assert ([each.host for each in found.vpc_endpoints], dict(found.unknown)) == ([host], {})

    def test_are_those_to_the_warehouses_account(self, own: FakeAws, listed: Callable[[str], Any]) -> None:
        foreign = FakeAws.endpoint("c1", "210987654321", "elsewhere")
        own.answers["describe_endpoint_access"] = [{"EndpointAccessList": [foreign]}]
        assert listed("cluster").vpc_endpoints == ()
        assert own.requests["describe_endpoint_access"]["ResourceOwner"] == "123456789012"

    def test_where_one_account_cannot_be_asked_the_other_ones_are_known(
        self, aws: FakeAws, own: FakeAws, listed: Callable[[str], Any]
    ) -> None:
        own.deny("describe_endpoint_access")
        aws.answers["describe_endpoint_access"] = [{"EndpointAccessList": [FakeAws.endpoint("c1")]}]
        found = listed("cluster")
        assert [each.host for each in found.vpc_endpoints] == ["c1-private"]
        assert "DescribeEndpointAccess" in found.unknown["vpc_endpoints"]

    def test_without_a_role_they_are_listed_once(self, aws: FakeAws, client: AwsClient) -> None:
        client.list(CLUSTERS, ask_aws)
        assert aws.asked("describe_endpoint_access") == [None, "1"]


class TestWorkgroups:
    def test_are_listed_with_everything_that_a_connection_needs(self, aws: FakeAws, client: AwsClient) -> None:
        first, second = client.list(WORKGROUPS, ask_aws)
        assert (first.identifier, first.arn, second.identifier) == ("w1", workgroup_arn("w1"), "w3")
        assert (first.account, first.region, first.status) == ("123456789012", REGION, "AVAILABLE")
        assert (first.host, first.port, first.created_at) == ("w1.example", 5439, EPOCH - 1000.25)
        assert first.tags == {"airflow:conn-id": "w1", "airflow:endpoint": "vpc:private"}
        assert (first.database, first.admin_secret_arn) == ("sales", "arn:x")
        assert (second.database, second.admin_secret_arn) == ("dev", None)
        assert (first.vpc_endpoints, second.vpc_endpoints) == ((VpcEndpoint("private", "w1-private", 5),), ())

    @pytest.mark.attempt("put a VPC endpoint of another account in a warehouse's place")
    def test_aws_is_asked_for_vpc_endpoints_of_their_own_account_alone(self, aws: FakeAws, client: AwsClient) -> None:
        client.list(WORKGROUPS, ask_aws)
        assert aws.requests["list_endpoint_access"]["ownerAccount"] == "123456789012"

    def test_untagged_ones_cost_one_call(self, aws: FakeAws, client: AwsClient) -> None:
        aws.answers["get_resources"] = [{"ResourceTagMappingList": []}]
        assert client.list(WORKGROUPS, ask_aws) == ()
        assert [operation for operation, _ in aws.calls] == ["get_resources"]
        assert aws.requests["get_resources"] == {
            "ResourceTypeFilters": ["redshift-serverless:workgroup"],
            "TagFilters": [{"Key": "airflow:conn-id"}],
            "ResourcesPerPage": 100,
        }

    @pytest.mark.parametrize("denied", [False, True], ids=["tagging API", "tags one by one"])
    def test_a_listing_is_continued_wherever_it_was_cut(self, aws: FakeAws, client: AwsClient, denied: bool) -> None:
        if denied:
            aws.deny("get_resources")
        whole = client.list(WORKGROUPS, ask_aws)
        calls, aws.calls = aws.calls, []
        assert len(calls) == len(set(calls)) == 8
        memory = Memory()
        for number in range(len(calls)):
            aws.ends_after = number + 1
            if number + 1 < len(calls):
                with pytest.raises(ProcessEndsError):
                    client.list(WORKGROUPS, memory)
            else:
                assert client.list(WORKGROUPS, memory) == whole
        assert aws.calls == calls, "each process asked for exactly one more answer"

    @pytest.mark.parametrize(
        "failure",
        [
            *(
                ClientError({"Error": {"Code": code}}, "GetResources")
                for code in ("AccessDeniedException", "ThrottledException", "InternalServiceException", "OptInRequired")
            ),
            ClientError(
                {
                    "Error": {
                        "Code": "AccessDenied",
                        "Message": "because no VPC endpoint policy allows the tag:GetResources",
                    }
                },
                "GetResources",
            ),
            ConnectTimeoutError(endpoint_url="https://tagging.eu-west-1.amazonaws.com/"),
            EndpointConnectionError(endpoint_url="https://tagging.eu-west-1.amazonaws.com/"),
        ],
        ids=lambda failure: getattr(failure, "response", {}).get("Error", {}).get("Code", type(failure).__name__),
    )
    def test_tags_are_listed_one_by_one_where_the_tagging_api_refuses_or_is_not_reached(
        self, aws: FakeAws, client: AwsClient, failure: Exception
    ) -> None:
        aws.answers["get_resources"] = failure
        assert [each.tags for each in client.list(WORKGROUPS, ask_aws)] == [
            {"airflow:conn-id": "w1"},
            {"airflow:team": "w2"},  # it was asked for anyway, and can be reported
            {"airflow:conn-id": "w3"},
        ]

    def test_so_they_are_where_its_second_page_is_refused_or_its_pages_do_not_end(
        self, aws: FakeAws, client: AwsClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        page, one_by_one = aws.page, [{"airflow:conn-id": "w1"}, {"airflow:team": "w2"}, {"airflow:conn-id": "w3"}]

        def throttled(operation: str, pages: list[Any], token: str | None) -> dict[str, Any]:
            if operation == "get_resources" and token is not None:
                raise ClientError({"Error": {"Code": "ThrottledException"}}, "GetResources")
            return page(operation, pages, token)

        def endless(operation: str, pages: list[Any], token: str | None) -> dict[str, Any]:
            answer = page(operation, pages, None if operation == "get_resources" else token)
            return {**answer, "PaginationToken": "again"} if operation == "get_resources" else answer

        for odd in (throttled, endless):
            monkeypatch.setattr(aws, "page", odd, raising=False)
            assert [each.tags for each in client.list(WORKGROUPS, Memory())] == one_by_one

    def test_a_page_token_of_the_tagging_api_that_is_too_old_begins_it_again(
        self, aws: FakeAws, client: AwsClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        page, too_old = aws.page, [True]

        def expired(operation: str, pages: list[Any], token: str | None) -> dict[str, Any]:
            if operation == "get_resources" and token is not None and too_old:
                too_old.clear()
                raise ClientError({"Error": {"Code": "PaginationTokenExpiredException"}}, "GetResources")
            return page(operation, pages, token)

        monkeypatch.setattr(aws, "page", expired, raising=False)
        assert [each.identifier for each in client.list(WORKGROUPS, Memory())] == ["w1", "w3"]
        assert (aws.asked("get_resources"), aws.asked("list_tags_for_resource")) == ([None, "1", None, "1"], [])

    @pytest.mark.parametrize(
        ("of_tagging_api", "error"),
        [
            ("ThrottledException", ("tag:GetResources", "ThrottledException", False)),
            ("AccessDeniedException", ("redshift-serverless:ListTagsForResource", "AccessDeniedException", True)),
        ],
    )
    def test_where_they_may_not_be_listed_one_by_one_either_only_a_denial_is_one(
        self, aws: FakeAws, client: AwsClient, of_tagging_api: str, error: tuple[str, str, bool]
    ) -> None:
        """A scope that is denied is left out when it is decided which warehouse has a conn_id, one that is throttled is not."""
        aws.answers["get_resources"] = ClientError({"Error": {"Code": of_tagging_api}}, "GetResources")
        aws.deny("list_tags_for_resource")
        with pytest.raises(AwsError) as caught:
            client.list(WORKGROUPS, Memory())
        assert (caught.value.operation, caught.value.code, caught.value.is_denied) == error

    def test_what_is_wrong_with_this_hosts_credentials_is_the_answer(self, aws: FakeAws, client: AwsClient) -> None:
        aws.answers["get_resources"] = ClientError({"Error": {"Code": "ExpiredTokenException"}}, "GetResources")
        with pytest.raises(AwsError) as caught:
            client.list(WORKGROUPS, ask_aws)
        assert (caught.value.operation, caught.value.code) == ("tag:GetResources", "ExpiredTokenException")
        assert aws.asked("list_tags_for_resource") == []

    @pytest.mark.parametrize("operation", ["list_workgroups", "list_namespaces", "get_resources"])
    def test_an_item_that_is_nothing_hurts_no_other(self, aws: FakeAws, client: AwsClient, operation: str) -> None:
        for page in aws.answers[operation]:
            next(iter(page.values())).insert(0, None)
        found = {each.identifier: each for each in client.list(WORKGROUPS, Memory())}
        assert {name: found[name].unknown for name in ("w1", "w3")} == {"w1": {}, "w3": {}}
        assert (found["w1"].database, found["w3"].database) == ("sales", "dev")

    def test_a_tagging_api_that_does_not_answer_is_not_waited_for(self, aws: FakeAws, silent: threading.Event) -> None:
        impatient = AwsClient(Settings.from_kwargs({"regions": [REGION]}), tagging_patience_seconds=0)
        assert [each.identifier for each in impatient.list(WORKGROUPS, Memory())] == ["w1", "w2", "w3"]

    def test_where_there_is_no_workgroup_it_does_not_matter(self, aws: FakeAws, silent: threading.Event) -> None:
        aws.answers["list_workgroups"] = [{"workgroups": []}]
        impatient = AwsClient(Settings.from_kwargs({"regions": [REGION]}), tagging_patience_seconds=0)
        assert impatient.list(WORKGROUPS, Memory()) == ()
        assert "list_tags_for_resource" not in dict(aws.calls)

    def test_its_answer_is_used_if_it_comes_meanwhile(
        self, aws: FakeAws, silent: threading.Event, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        list_workgroups = Discovery._list_workgroups

        def list_and_hear(discovery: Discovery) -> Any:
            silent.set()
            while len([each for each in aws.calls if each[0] == "get_resources"]) < 2 or discovery._workers._threads:
                time.sleep(0.001)
            return list_workgroups(discovery)

        monkeypatch.setattr(Discovery, "_list_workgroups", list_and_hear)
        impatient = AwsClient(Settings.from_kwargs({"regions": [REGION]}), tagging_patience_seconds=0)
        assert [each.identifier for each in impatient.list(WORKGROUPS, Memory())] == ["w1", "w3"]
        assert "list_tags_for_resource" not in dict(aws.calls)

    def test_without_a_thread_to_give_it_is_asked_all_the_same(
        self, aws: FakeAws, client: AwsClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_thread(*_: object) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", no_thread)
        assert [each.identifier for each in client.list(WORKGROUPS, Memory())] == ["w1", "w3"]

    def test_one_that_was_deleted_since_it_was_listed_is_left_out(self, aws: FakeAws, client: AwsClient) -> None:
        aws.deny("get_resources")
        gone = {"Error": {"Code": "ResourceNotFoundException", "Message": "Resource not found."}}
        aws.answers["list_tags_for_resource"][workgroup_arn("w1")] = ClientError(gone, "ListTagsForResource")
        assert [each.identifier for each in client.list(WORKGROUPS, Memory())] == ["w2", "w3"]

    def test_one_whose_arn_aws_does_not_take_hurts_no_other(self, aws: FakeAws, client: AwsClient) -> None:
        aws.deny("get_resources")
        invalid = {"Error": {"Code": "ValidationException", "Message": "Invalid ARN."}}
        aws.answers["list_tags_for_resource"][workgroup_arn("w1")] = ClientError(invalid, "ListTagsForResource")
        found = {each.identifier: each for each in client.list(WORKGROUPS, Memory())}
        assert "Invalid ARN" in found["w1"].unknown["tags"]
        assert (found["w3"].unknown, dict(found["w2"].tags)) == ({}, {"airflow:team": "w2"})

    def test_a_role_that_may_not_be_assumed_says_nothing_of_the_tagging_api(
        self, aws: FakeAws, client: AwsClient
    ) -> None:
        aws.deny("get_resources", "AssumeRole")
        memory = Memory()
        with pytest.raises(AwsError) as caught:
            client.list(WORKGROUPS, memory)
        assert (caught.value.operation, caught.value.is_denied) == ("sts:AssumeRole", True)
        assert memory.answers == {}

    def test_an_answer_that_is_no_listing_is_an_error(self, aws: FakeAws, client: AwsClient) -> None:
        """botocore returns a response in HTML as one without any of its members."""
        aws.answers["list_workgroups"] = [{"message": "<html>Log in</html>"}]
        memory = Memory()
        with pytest.raises(AwsError) as caught:
            client.list(WORKGROUPS, memory)
        assert (caught.value.operation, caught.value.code) == (
            "redshift-serverless:ListWorkgroups",
            "UnreadableResponse",
        )
        assert not any("ListWorkgroups" in name for name in memory.answers)
