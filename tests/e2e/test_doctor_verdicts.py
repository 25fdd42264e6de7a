"""What `doctor` finds out with a stand-in that refuses, is silent, or has warehouses with wrong tags."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest

from redshift_secrets.airflow import metadata_database
from redshift_secrets.airflow.stored import Place, StoredConnection
from redshift_secrets.local.stand_in import StandIn
from redshift_secrets.operations.doctor import Patience, examine
from redshift_secrets.operations.doctor.verdicts import Verdict
from redshift_secrets.settings import Settings

pytestmark = pytest.mark.airflow

ROLE = "arn:aws:iam::222222222222:role/airflow-remote"
CALLER = "arn:aws:iam::123456789012:user/airflow"
WAREHOUSES = {
    "roles": [{"arn": ROLE, "tag_session": True}],
    "clusters": [
        {"identifier": "prod", "tags": {"airflow:conn-id": "analytics dw_one", "airflow:db-user": "etl"}},
        {
            "identifier": "remote",
            "account": "222222222222",
            "tags": {"airflow:conn-id": "remote", "airflow:auth": "iam"},
        },
        {"identifier": "bare", "region": "eu-west-3"},
        {"identifier": "asleep", "region": "us-east-2", "status": "paused", "tags": {"airflow:conn-id": "sleeping"}},
        {
            "identifier": "special",
            "region": "ap-south-1",
            "manage_master_password": True,
            "tags": {
                "airflow:conn-id": "dw_dag dw_secret dw_connector",
                "airflow:auth/dw_secret": "secret",
                "airflow:auth/dw_connector": "connector",
                "airflow:db-user/dw_connector": "etl",
            },
        },
        {"identifier": "typo", "region": "us-east-2", "tags": {"airflow:con-id": "x"}},
    ],
    "workgroups": [
        {"name": "adhoc", "tags": {"airflow:conn-id": "adhoc"}},
        {"name": "typo", "region": "us-east-2", "tags": {"Airflow:Conn-Id": "x"}},
    ],
}
Examine = Callable[..., list[Verdict]]
ONCE = {"retries": {"total_max_attempts": 1}}


@pytest.fixture
def diagnose(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> Examine:
    """Examine a site with these settings; its metadata database has the connections of `in_database`."""
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", "redshift_secrets.RedshiftSecretsBackend")

    stored: list[StoredConnection] = []
    monkeypatch.setattr(metadata_database, "database_connections", lambda: stored)

    def run(patience: Patience | None = None, in_database: tuple[str, ...] = (), **settings: Any) -> list[Verdict]:
        stored[:] = [StoredConnection(conn_id, Place("database", conn_id)) for conn_id in in_database]
        known = {
            "regions": ["eu-west-1", "eu-west-3"],
            "db_user": "etl",
            "managed_conn_ids": "^(analytics|adhoc|remote|dw_)",
        }
        return examine(
            Settings.from_kwargs({**known, "aws_timeout_seconds": 300, **settings}), patience or Patience(300, 300, 300)
        )

    return run


def of(verdicts: list[Verdict], check: str, status: str | None = None) -> list[str]:
    return [each.message for each in verdicts if each.check == check and status in (None, each.status)]


def problems(verdicts: list[Verdict]) -> list[tuple[str, str]]:
    return [(each.check, each.message) for each in verdicts if each.status == "problem"]


def test_all_is_well(diagnose: Examine, stand_in: StandIn) -> None:
    found = diagnose(accounts=[{"role_arn": ROLE}])
    assert problems(found) == []
    assert of(found, "caller") == [f"{CALLER} (from environment variables)"]
    assert of(found, "warehouses", "ok") == [
        f"in eu-west-1 as {CALLER}: 1 cluster and 1 workgroup seen, 2 carry airflow:conn-id",
        f"in eu-west-1 as {ROLE}: 1 cluster and 0 workgroups seen, 1 carries airflow:conn-id",
        f"none in eu-west-3 as {ROLE}",
    ]
    assert of(found, "warehouses", "warning") == [
        f"in eu-west-3 as {CALLER}: 1 cluster and 0 workgroups seen, 0 carry airflow:conn-id"
    ]
    assert of(found, "permissions", "ok") == [
        "sts:AssumeRole allowed on 1 role",
        "redshift:DescribeClusters, redshift-serverless:ListWorkgroups, redshift-serverless:ListNamespaces, tag:GetResources"
        " allowed in 2 regions and 2 accounts",
        "redshift-serverless:GetWorkgroup allowed on 1 workgroup",
        "redshift:GetClusterCredentials, redshift-serverless:GetCredentials, redshift:GetClusterCredentialsWithIAM: 3 of 3 logins"
        " minted, of 3 warehouses",
        f"redshift:GetClusterCredentials allowed where no warehouse is tagged yet: eu-west-3 as {CALLER}",
    ]
    assert of(found, "claims") == ["4 conn_ids, each of one warehouse"]
    assert of(found, "tls") == [
        "3 endpoints of warehouses accept connections from here, with certificates that clients trust"
    ]
    assert of(found, "stored", "ok") == [
        "none of 0 connections in the metadata database and in environment variables has a conn_id that this backend manages"
    ]


def test_two_conn_ids_with_one_login_are_minted_for_once(diagnose: Examine, stand_in: StandIn) -> None:
    diagnose(regions=["eu-west-1"], warehouses=["clusters"])
    assert stand_in.aws.calls.by_operation()["redshift:GetClusterCredentials"] == 1


def test_every_way_of_authenticating_is_tried(diagnose: Examine, stand_in: StandIn) -> None:
    found = diagnose(
        regions=["ap-south-1"],
        warehouses=["clusters"],
        db_user="etl_{dag_id}",
        allow_admin_secret=True,
        managed_conn_ids="^dw_",
    )
    assert problems(found) == []
    assert of(found, "permissions", "ok")[1] == (
        "redshift:GetClusterCredentials, secretsmanager:GetSecretValue: 3 of 3 logins minted, of 1 warehouse"
    )
    assert {token.user for token in stand_in.tokens.minted()} >= {"IAM:etl", "IAM:etl_redshift_secrets_doctor"}


def test_expired_credentials_are_one_verdict(diagnose: Examine, stand_in: StandIn) -> None:
    stand_in.aws.faults.add(operation="*", kind="expired_token")
    ((check, message),) = problems(diagnose(accounts=[{"role_arn": ROLE}]))
    assert check == "caller"
    assert "ExpiredToken" in message
    assert message.endswith("Nothing else was asked of AWS: 8 listings in 2 accounts")


def test_no_credentials_at_all(diagnose: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    found = diagnose()
    ((check, message),) = problems(found)
    assert check == "caller"
    assert "Give this process an instance profile" in message


def test_a_clock_that_is_wrong_is_one_verdict(diagnose: Examine, stand_in: StandIn) -> None:
    stand_in.aws.faults.add(operation="*", kind="clock_skew")
    ((_, message),) = problems(diagnose())
    assert "Synchronize it with NTP" in message


def test_a_role_that_cannot_be_assumed(diagnose: Examine) -> None:
    found = diagnose(accounts=[{"role_arn": ROLE + "-not-there"}], managed_conn_ids="^(analytics|adhoc|dw_)")
    ((check, message),) = problems(found)
    assert check == "permissions"
    assert f"sts:AssumeRole on {ROLE}-not-there" in message
    assert "check external_id" in message
    assert of(found, "caller") == [f"{CALLER} (from environment variables)"]
    assert len(of(found, "warehouses")) == 2  # those of the caller's own account


def test_a_mint_that_is_denied_names_what_to_grant(diagnose: Examine, stand_in: StandIn) -> None:
    stand_in.aws.faults.add(operation="redshift:GetClusterCredentials", kind="access_denied", region="eu-west-1")
    ((check, message),) = problems(diagnose(accounts=[{"role_arn": ROLE}]))
    assert check == "permissions"
    assert message.endswith(
        "Grant redshift:GetClusterCredentials on arn:aws:redshift:eu-west-1:123456789012:dbuser:prod/etl and"
        f" arn:aws:redshift:eu-west-1:123456789012:dbname:prod/dev to {CALLER}."
    )


def test_what_is_denied_everywhere_is_one_verdict_for_each_identity(diagnose: Examine, stand_in: StandIn) -> None:
    stand_in.aws.faults.add(operation="redshift:DescribeClusters", kind="access_denied")
    found = problems(diagnose(accounts=[{"role_arn": ROLE}]))
    assert [check for check, _ in found] == ["permissions", "permissions"]
    assert (
        f"redshift:DescribeClusters as {CALLER} failed (AccessDenied) for 2 listings (clusters in eu-west-1,"
        " clusters in eu-west-3). The first:"
    ) in found[0][1]
    assert f"redshift:DescribeClusters as {ROLE} failed (AccessDenied) for 2 listings" in found[1][1]


def test_a_permission_that_is_only_needed_later_is_tried(diagnose: Examine, stand_in: StandIn) -> None:
    stand_in.aws.faults.add(operation="redshift-serverless:GetWorkgroup", kind="access_denied")
    ((check, message),) = problems(diagnose())
    assert check == "permissions"
    assert message.startswith(
        "redshift-serverless:GetWorkgroup on Serverless workgroup adhoc (account 123456789012, eu-west-1) as"
    )


def test_without_the_tagging_api_tags_are_listed_one_by_one(diagnose: Examine, stand_in: StandIn) -> None:
    stand_in.aws.faults.add(operation="resourcegroupstaggingapi:GetResources", kind="access_denied")
    found = diagnose()
    assert problems(found) == []
    (warning,) = of(found, "permissions", "warning")
    assert warning.startswith("tag:GetResources is denied in eu-west-1")
    stand_in.aws.faults.add(operation="redshift-serverless:ListTagsForResource", kind="access_denied")
    ((check, message),) = problems(diagnose(regions=["eu-west-1"]))
    assert check == "permissions"
    assert "Grant redshift-serverless:ListTagsForResource" in message


def test_a_mint_that_is_denied_without_a_warehouse_may_be_right(diagnose: Examine, stand_in: StandIn) -> None:
    stand_in.aws.faults.add(operation="redshift:GetClusterCredentials", kind="access_denied", region="eu-west-3")
    found = diagnose()
    assert problems(found) == []
    (warning,) = of(found, "permissions", "warning")
    assert "redshift:GetClusterCredentials denied for a warehouse that does not exist, in eu-west-3" in warning


def test_what_aws_throttles_is_not_known(diagnose: Examine, stand_in: StandIn) -> None:
    stand_in.aws.faults.add(operation="redshift:GetClusterCredentials", kind="throttle", region="eu-west-1")
    found = diagnose(config=ONCE)
    assert problems(found) == []
    (unknown,) = [each for each in found if each.status == "unknown"]
    assert "AWS is throttling this account" in unknown.message


def test_a_service_that_is_silent_in_a_region_is_asked_once_more_and_no_further(
    diagnose: Examine, stand_in: StandIn
) -> None:
    stand_in.aws.faults.add(operation="redshift:*", kind="black_hole", region="eu-west-3")
    found = diagnose(Patience(10.0, 300, 300), aws_timeout_seconds=10, config=ONCE)
    ((_, message),) = problems(found)
    assert "TimedOut" in message or "took longer than 10 s" in message
    assert f"in eu-west-1 as {CALLER}: 1 cluster and 1 workgroup seen" in "".join(of(found, "warehouses"))


def test_aws_that_is_not_there_is_one_verdict(diagnose: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    found = diagnose(accounts=[{"role_arn": ROLE}], config=ONCE)
    ((check, message),) = problems(found)
    assert check == "endpoints"
    assert "Connection refused" in message


def test_a_service_without_its_endpoint_is_one_verdict(
    diagnose: Examine, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_REDSHIFT_SERVERLESS", "http://127.0.0.1:1")
    found = diagnose(managed_conn_ids="^(analytics|dw_)", config=ONCE)
    ((check, message),) = problems(found)
    assert check == "endpoints"
    assert message.startswith(
        "redshift-serverless in eu-west-1, redshift-serverless in eu-west-3: could not connect to"
    )
    assert of(found, "warehouses", "ok") == [f"in eu-west-1 as {CALLER}: 1 cluster seen, 1 carries airflow:conn-id"]
    assert "redshift-serverless:ListWorkgroups" not in stand_in.aws.calls.by_operation()


def test_an_sts_that_is_not_reached_is_no_matter_without_roles(
    diagnose: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
    found = diagnose(config=ONCE)
    assert problems(found) == []
    assert of(found, "endpoints", "warning")[0].startswith("sts in eu-west-1: could not connect")
    ((check, message),) = problems(diagnose(accounts=[{"role_arn": ROLE}], config=ONCE))
    assert check == "endpoints"
    assert message.startswith("sts in eu-west-1: could not connect")


def test_a_metadata_database_that_hangs_or_fails(diagnose: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql+psycopg2://me:planted@db.corp:5433/airflow")
    monkeypatch.setattr(metadata_database, "database_connections", never.wait)
    found = diagnose(Patience(300, 300, 0.0))
    never.set()
    assert of(found, "stored", "warning") == [
        "the metadata database (postgresql at db.corp:5433) took longer than 0 s. Which connections it stores is not known"
    ]


def test_tags_claims_and_states(diagnose: Examine) -> None:
    found = diagnose(regions=["us-east-2"], managed_conn_ids="^analytics")
    told = problems(found)
    assert [check for check, _ in told] == ["warehouses", "tags", "tags", "claims"]
    assert told[0][1].startswith(
        "cluster asleep (account 123456789012, us-east-2): paused, so its conn_ids are refused. Resume it"
    )
    assert "tag airflow:con-id looks like airflow:conn-id" in told[1][1]
    assert "tag Airflow:Conn-Id looks like airflow:conn-id" in told[2][1]
    assert "'sleeping' outside managed_conn_ids" in told[3][1]


def test_a_certificate_that_is_not_trusted_names_host_port_and_remedy(
    diagnose: Examine, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = ssl.get_default_verify_paths().openssl_cafile
    monkeypatch.setenv("SSL_CERT_FILE", system if os.path.exists(system) else "/etc/ssl/certs/ca-certificates.crt")
    ((check, message),) = problems(diagnose())
    assert check == "tls"
    host, port = stand_in.gateway.address_of("arn:aws:redshift:eu-west-1:123456789012:cluster:prod", "default") or (
        "",
        0,
    )
    assert f"cluster prod (account 123456789012, eu-west-1) at {host}:{port}" in message
    assert "Serverless workgroup adhoc" in message
    assert "TLS with sslmode = verify-full failed" in message
    assert "set sslrootcert, or SSL_CERT_FILE" in message


def test_a_warehouse_that_does_not_listen(diagnose: Examine) -> None:
    ((check, message),) = problems(diagnose(hosts={"prod": "127.0.0.1:1"}, regions=["eu-west-1"]))
    assert check == "tls"
    assert (
        "127.0.0.1:1 refuses connections: nothing listens there. Check the port, and the host of the setting hosts"
        in message
    )


def test_stored_connections_that_are_shadowed_or_refused(diagnose: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ADHOC", "redshift://me:planted@old/")
    found = diagnose(in_database=("analytics", "dw_old", "smtp"))
    (shadowed,) = of(found, "stored", "warning")
    assert "2 stored connections no longer used" in shadowed
    assert "AIRFLOW_CONN_ADHOC in environment variables; 'analytics' in the metadata database" in shadowed
    ((check, refused),) = problems(found)
    assert check == "stored"
    assert "1 stored connection refused" in refused
    assert "'dw_old' in the metadata database" in refused
