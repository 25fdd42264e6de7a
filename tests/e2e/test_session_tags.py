"""Users, groups and database roles named by session tags, as PostgreSQL sees them, and what that costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import redshift_connector
from msgspec.structs import replace

from redshift_secrets.aws.client import AwsClient
from redshift_secrets.aws.sessions import Sessions, role_session_name
from redshift_secrets.errors import CannotServeError
from redshift_secrets.local.stand_in import StandIn
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.model import MintRequest, TaskContext
from redshift_secrets.settings import Settings
from tests.e2e.conftest import MINT_WITH_IAM, MakeBroker
from tests.e2e.test_ways_of_authenticating import log_in
from tests.support.helpers import in_child

ASSUME, MINT_SERVERLESS = "sts:AssumeRole", "redshift-serverless:GetCredentials"
OWN = "arn:aws:iam::123456789012:role/airflow-redshift"
OTHER = "arn:aws:iam::222222222222:role/airflow-remote"
UNTAGGED = "arn:aws:iam::123456789012:role/untagged"
SQL = "CREATE TABLE sales (id int); GRANT SELECT ON sales TO readers;"

WAREHOUSES = {
    "roles": [
        {"arn": OWN, "tag_session": True},
        {"arn": OTHER, "tag_session": True, "external_id": "agreed-word"},
        {"arn": UNTAGGED},
    ],
    "clusters": [
        {
            "identifier": "prod",
            "database": {"groups": ["readers", "loaders"], "sql": SQL},
            "tags": {
                "airflow:conn-id": "grouped grouped-user plain",
                "airflow:auth": "iam",
                "airflow:db-groups/grouped": "readers unknown",
                "airflow:db-groups/grouped-user": "readers loaders",
                "airflow:db-user/grouped-user": "bi",
            },
        }
    ],
    "workgroups": [
        {
            "name": "adhoc",
            "database": {"roles": ["readers", "loaders"], "sql": SQL},
            "tags": {
                "airflow:conn-id": "etl etl-again bi roles any",
                "airflow:db-user/etl": "etl",
                "airflow:db-user/etl-again": "etl",
                "airflow:db-user/bi": "bi",
                "airflow:db-roles/bi": "readers",
                "airflow:db-roles/roles": "readers unknown",
            },
        },
        {
            "name": "remote",
            "account": "222222222222",
            "region": "us-east-1",
            "database": {"roles": ["readers"], "sql": SQL},
            "tags": {"airflow:conn-id": "remote", "airflow:db-user": "etl", "airflow:db-roles": "readers"},
        },
    ],
}


@pytest.fixture
def clock() -> Callable[[], float]:
    return time.time


@pytest.fixture
def make(make_broker: MakeBroker) -> MakeBroker:
    def make(**changes: Any) -> Broker:
        accounts = [{"role_arn": OTHER, "external_id": "agreed-word", "regions": ["us-east-1"]}]
        return make_broker(**{"role_arn": OWN, "accounts": accounts, **changes})

    return make


def who(broker: Broker, conn_id: str, task: TaskContext | None = None) -> list[Any]:
    """Return what AWS says the user is, what PostgreSQL says, and the roles it has of `readers` and `loaders`."""
    fields = broker.connection(conn_id, task=task)
    assert fields is not None
    with closing(log_in(fields)) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT current_user, array_to_string(ARRAY(SELECT rolname FROM pg_roles WHERE rolname IN ('readers', 'loaders')"
            " AND pg_has_role(current_user, oid, 'member') ORDER BY 1), ' ')"
        )
        return [fields.login, *cursor.fetchone()]


@pytest.mark.parametrize(
    ("conn_id", "user", "roles"),
    [
        ("etl", "IAMR:etl", ""),
        ("bi", "IAMR:bi", "readers"),
        ("roles", "IAMR:airflow-redshift", "readers"),
        ("any", "IAMR:airflow-redshift", ""),
        ("remote", "IAMR:etl", "readers"),
        ("grouped", "IAMR:airflow-redshift", "readers"),
        ("grouped-user", "IAMR:bi", "loaders readers"),
        ("plain", "IAMR:airflow-redshift", ""),
    ],
)
def test_the_user_and_its_roles_are_those_of_the_tags(make: MakeBroker, conn_id: str, user: str, roles: str) -> None:
    assert who(make(), conn_id) == [user, user, roles]


def test_roles_decide_what_the_session_may_do(make: MakeBroker) -> None:
    broker = make()
    for conn_id, may_read in (("bi", True), ("etl", False)):
        fields = broker.connection(conn_id)
        assert fields is not None
        with closing(log_in(fields)) as connection:
            if may_read:
                connection.cursor().execute("SELECT * FROM sales")
            else:
                with pytest.raises(redshift_connector.ProgrammingError, match="permission denied"):
                    connection.cursor().execute("SELECT * FROM sales")


def test_settings_name_user_and_roles_where_no_tag_does(make: MakeBroker) -> None:
    broker = make(db_user="airflow_etl", db_roles=["loaders"])
    assert who(broker, "any") == ["IAMR:airflow_etl", "IAMR:airflow_etl", "loaders"]
    assert who(broker, "bi") == ["IAMR:bi", "IAMR:bi", "readers"]
    assert who(broker, "plain") == ["IAMR:airflow_etl", "IAMR:airflow_etl", ""]


def test_each_dag_has_a_user_of_its_own_and_one_role_is_assumed_for_each(make: MakeBroker, stand_in: StandIn) -> None:
    broker = make(db_user="etl_{dag_id}")
    broker.inventory.snapshot()
    stand_in.aws.calls.clear()
    for dag_id in ("sales", "stock", "sales"):
        user = f"IAMR:etl_{dag_id}"
        assert who(broker, "any", TaskContext(dag_id)) == [user, user, ""]
    assert stand_in.aws.calls.by_operation() == {ASSUME: 2, MINT_SERVERLESS: 2}
    # Another warehouse needs another credential for the same user, and no further session.
    assert who(broker, "plain", TaskContext("sales"))[0] == "IAMR:etl_sales"
    assert stand_in.aws.calls.by_operation() == {ASSUME: 2, MINT_SERVERLESS: 2, MINT_WITH_IAM: 1}


def test_one_user_is_minted_for_once(make: MakeBroker, stand_in: StandIn) -> None:
    broker = make()
    broker.inventory.snapshot()
    stand_in.aws.calls.clear()
    logins = [broker.connection(conn_id) for conn_id in ("etl", "etl-again", "etl")]
    assert len({fields.password for fields in logins if fields is not None}) == 1
    assert stand_in.aws.calls.by_operation() == {ASSUME: 1, MINT_SERVERLESS: 1}


def test_sessions_beyond_the_limit_are_forgotten_and_made_again(
    make: MakeBroker, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redshift_secrets.aws.sessions._MAX_TAGGED", 2)
    [spec] = make(db_user="etl").inventory.snapshot().specs["any"]
    aws = AwsClient(Settings.from_kwargs({"regions": ["eu-west-1"], "role_arn": OWN}))
    stand_in.aws.calls.clear()
    for user in ("a", "b", "a", "c", "a", "b"):
        assert aws.mint(replace(MintRequest.of(spec), db_user=user)).user == f"IAMR:{user}"
    assert stand_in.aws.calls.by_operation() == {ASSUME: 4, MINT_SERVERLESS: 6}


def test_a_child_of_a_fork_assumes_roles_of_its_own(make: MakeBroker, stand_in: StandIn) -> None:
    broker = make()
    broker.connection("etl")
    stand_in.aws.calls.clear()
    found = in_child(lambda: broker.connection("bi").login)  # type: ignore[union-attr]  # it is there
    assert found == "IAMR:bi"
    assert stand_in.aws.calls.by_operation() == {ASSUME: 1, MINT_SERVERLESS: 1}


def test_a_role_that_may_not_be_tagged_is_refused_with_what_to_allow(make: MakeBroker) -> None:
    broker = make(role_arn=UNTAGGED)
    assert who(broker, "any")[0] == "IAMR:untagged"
    with pytest.raises(CannotServeError) as refused:
        broker.connection("bi")
    message = str(refused.value)
    assert (
        f"sts:AssumeRole on {UNTAGGED} with the session tags RedshiftDbUser = bi, RedshiftDbRoles = readers" in message
    )
    assert "is not authorized to perform: sts:TagSession" in message
    assert "Allow sts:TagSession with these tags, beside sts:AssumeRole, in the role's trust policy" in message


def test_a_caller_that_may_not_mint_with_tags_is_named_by_its_role(make: MakeBroker, stand_in: StandIn) -> None:
    broker = make()
    broker.inventory.snapshot()
    stand_in.aws.faults.add(MINT_SERVERLESS, "access_denied")
    with pytest.raises(CannotServeError, match=rf"as {OWN} failed .*Grant {MINT_SERVERLESS} on \S+ to {OWN}\."):
        broker.connection("etl")


def test_without_a_role_it_is_refused_and_nothing_is_asked_of_sts(make: MakeBroker, stand_in: StandIn) -> None:
    broker = make(role_arn=None)
    broker.inventory.snapshot()
    stand_in.aws.calls.clear()
    for conn_id in ("etl", "bi", "roles", "grouped", "grouped-user"):
        with pytest.raises(CannotServeError, match=r"no role is configured for account 123456789012\. Set role_arn"):
            broker.connection(conn_id)
    assert stand_in.aws.calls.by_operation() == {}
    assert who(broker, "any")[0] == "IAM:airflow"


def test_the_description_names_the_role_that_minted(make: MakeBroker) -> None:
    fields = make().connection("remote")
    assert fields is not None
    assert f"user IAMR:etl, minted by {OTHER}" in fields.description


@pytest.mark.usefixtures("stand_in")
def test_cloudtrail_sees_which_user_on_which_host_assumed_a_role() -> None:
    arn = Sessions(Settings.from_kwargs({"role_arn": OWN})).sts_identity("eu-west-1")
    assert arn == f"arn:aws:sts::123456789012:assumed-role/airflow-redshift/{role_session_name()}"
