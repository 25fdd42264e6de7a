"""docs/contract.md, "Looking a conn_id up": managed conn_ids that cannot be served, and the messages of refusals."""

from __future__ import annotations

import threading

import pytest
from msgspec.structs import replace

from redshift_secrets.errors import AwsError, CannotServeError
from tests.support.fakes import Clock, cluster, denied, workgroup
from tests.support.helpers import all_refreshes_done, tagged

ME = "arn:aws:iam::123456789012:role/airflow"


class SteppingClock(Clock):
    """A clock on which `step` seconds pass at each reading."""

    step = 0

    def __call__(self):
        self.pass_(self.step)
        return self.now


def refused(here):
    """As `Site.refusal`, where a refresh is still running."""
    with pytest.raises(CannotServeError) as caught:
        here.broker.connection("analytics")
    return str(caught.value)


class TestStates:
    @pytest.mark.parametrize("status", ["paused", "pausing", "PAUSED", "Pausing", "resuming", "deleting", "creating", "final-snapshot",
                                        "hardware-failure", "incompatible-network", "Incompatible-HSM"])  # fmt: skip
    def test_a_warehouse_that_accepts_no_logins_is_refused_with_its_state(self, site, status):
        here = site(tagged(status=status))
        message = here.refusal()
        assert f"'analytics' cannot be served: cluster prod (account 123456789012, eu-west-1) is {status}" in message
        advice = {"paus": "Resume it, or m", "dele": "M", "fina": "M"} | dict.fromkeys(
            ("hard", "inco"), "See in the Redshift console what is wrong with it, or m"
        )
        how = advice.get(status[:4].lower(), "Wait until it is available, or m")
        assert message.endswith(f". {how}ove the tag to another warehouse")
        assert here.aws.calls["mint"] == 0

    @pytest.mark.parametrize("status", ["available", "modifying", "resizing", "rebooting", "maintenance"])
    def test_a_warehouse_in_a_short_lived_state_is_served(self, site, status):
        here = site(tagged(status=status))
        assert here.ask() is not None
        assert here.aws.calls["describe"] == 0

    @pytest.mark.parametrize("status", ["DELETING", "CREATING"])
    def test_a_workgroup_in_such_a_state_is_refused_too(self, site, status):
        here = site(replace(workgroup(tags={"airflow:conn-id": "analytics"}), status=status))
        assert f"Serverless workgroup adhoc (account 123456789012, eu-west-1) is {status}" in here.refusal()

    def test_a_warehouse_without_an_endpoint_yet_is_refused(self, site):
        assert "available, without an endpoint" in site(tagged(host=None)).refusal()

    def test_a_warehouse_that_is_available_again_is_served_although_the_catalog_says_paused(self, site):
        here = site(tagged(status="paused"))
        here.ask("other")
        here.aws.warehouses[0] = tagged()
        assert here.ask().password == "password-1"
        assert here.aws.calls == {"list": 2, "describe": 1, "mint": 1}

    def test_the_connection_has_the_current_endpoint(self, site):
        here = site(tagged(status="resuming", host=None))
        here.ask("other")
        here.aws.warehouses[0] = tagged(host="moved.example.com")
        assert here.ask().host == "moved.example.com"

    def test_any_number_of_lookups_of_a_paused_warehouse_ask_aws_once_in_5_s(self, site, clock):
        here = site(tagged(status="paused"))
        for _ in range(2):
            for _ in range(100):
                here.refusal()
            clock.pass_(5)
        assert here.aws.calls["describe"] == 2

    def test_a_deleted_warehouse_is_refused_with_its_last_state_and_the_error(self, site):
        here = site(tagged(status="deleting"))
        here.ask("other")
        here.aws.warehouses.clear()
        message = here.refusal()
        assert "was last seen deleting" in message
        assert "ClusterNotFound" in message

    def test_a_paused_warehouse_affects_no_other(self, site):
        assert site(tagged(status="paused"), cluster("b", {"airflow:conn-id": "fine"})).ask("fine") is not None


class TestCannotBeServed:
    def test_a_denied_mint_names_call_resource_caller_and_fix(self, site):
        here = site()
        here.aws.mint_error = AwsError(
            "redshift:GetClusterCredentialsWithIAM", "dbname:prod/dev", ME, "AccessDenied", "Not allowed.", "Grant it."
        )
        assert here.refusal() == (
            "connection 'analytics' cannot be served: redshift:GetClusterCredentialsWithIAM on dbname:prod/dev as"
            f" {ME} failed (AccessDenied): Not allowed. Grant it."
        )

    @pytest.mark.parametrize(
        ("role_arn", "caller"), [(None, "the default AWS identity of this process"), (ME, ME)], ids=["own", "assumed"]
    )
    def test_a_late_mint_is_refused_and_the_next_lookup_does_not_wait(self, site, role_arn, caller):
        monotonic = SteppingClock()
        here = site(cluster(role_arn=role_arn), monotonic=monotonic)
        here.ask("other")
        here.aws.hold, monotonic.step = threading.Event(), 10
        messages = [refused(here), refused(here)]
        for message in messages:
            assert "Timed out after 10 s (aws_timeout_seconds)" in message
            assert "the credential of auth iam on cluster prod (123456789012, eu-west-1)" in message
            assert f"called as {caller}" in message
            assert "Check the route to it" in message
        here.aws.hold.set()
        all_refreshes_done()
        assert here.ask().password == "password-1"
        assert here.aws.calls["mint"] == 1

    @pytest.mark.parametrize(
        ("tags", "names"),
        [
            ({"duration": "fast"}, ["airflow:duration", "whole number of seconds", "'fast'"]),
            ({"db_user": "a:b"}, ["airflow:db-user", "no colon"]),
            ({"auth": "imm"}, ["airflow:auth", "did you mean 'iam'?"]),
            ({"auth": "db-user"}, ["airflow:auth", "needs a database user", "setting db_user"]),
            ({"auth": "secret"}, ["airflow:auth", "admin user", "allow_admin_secret"]),
            ({"endpoint": "vpc:gone"}, ["airflow:endpoint", "no Redshift-managed VPC endpoint of that name"]),
            ({"endpoint": "custom-domain"}, ["airflow:endpoint", "no custom domain"]),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
    )
    def test_a_malformed_tag_is_refused_with_resource_tag_and_fix_and_affects_no_other(self, site, tags, names):
        here = site(tagged(**tags), cluster("b", {"airflow:conn-id": "fine"}))
        message = here.refusal()
        for name in ["'analytics'", "cluster prod (account 123456789012, eu-west-1)", *names]:
            assert name in message
        assert here.ask("fine") is not None
        assert here.aws.calls["mint"] == 1

    def test_a_failed_mint_of_one_connection_affects_no_other(self, site):
        here = site(cluster(tags={"airflow:conn-id": "analytics fine", "airflow:auth/fine": "connector",
                                  "airflow:db-user/fine": "etl"}))  # fmt: skip
        here.aws.mint_error = denied()
        here.refusal()
        assert here.ask("fine").password is None

    def test_a_failed_mint_is_retried_after_a_pause(self, site, clock):
        here = site()
        here.aws.mint_error = denied()
        for _ in range(5):
            here.refusal()
        assert here.aws.calls["mint"] == 1
        here.aws.mint_error = None
        clock.pass_(10)
        assert here.ask() is not None

    def test_while_the_credential_is_stale_a_failed_mint_refuses_nothing(self, site, clock):
        here = site()
        here.ask()
        here.aws.mint_error = denied()
        clock.pass_(1800)
        assert {here.ask().password for _ in range(5)} == {"password-1"}

    def test_an_unexpected_error_is_refused_without_repeating_its_text(self, site):
        here = site()
        here.aws.mint_error = KeyError("hunter2")
        message = here.refusal()
        assert "KeyError" in message
        assert "report it" in message
        assert "hunter2" not in message


class TestServed:
    def test_lookups_of_one_conn_id_share_one_mint_and_mask_its_password_once(self, site):
        here = site()
        assert {here.ask().password for _ in range(100)} == {"password-1"}
        assert here.aws.calls == {"list": 2, "mint": 1}
        assert here.secrets == ["password-1"]

    @pytest.mark.parametrize(("ttl", "returned_for"), [(0, 3540), (900, 2700), (100, 3500)])
    def test_a_password_is_valid_for_as_long_as_airflow_caches_it(self, site, clock, ttl, returned_for):
        here = site(airflow_cache_ttl_seconds=ttl)
        here.ask()
        here.aws.mint_error = denied()
        clock.pass_(returned_for - 1)
        assert here.ask().password == "password-1"
        clock.pass_(11)
        here.refusal()

    @pytest.mark.parametrize("kind", [cluster, workgroup])
    @pytest.mark.parametrize(
        ("region", "served"), [(None, True), ("eu-west-1", True), ("us-east-1", False)], ids=["none", "same", "other"]
    )
    @pytest.mark.parametrize("place", ["environment", "profile"])
    def test_connector_is_refused_where_the_hook_would_ask_another_region(
        self, site, monkeypatch, tmp_path, kind, region, served, place
    ):
        monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
        (tmp_path / "config").write_text(f"[profile etl]\nregion = {region}\n" if region else "")
        if place == "profile":
            monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
            monkeypatch.setenv("AWS_PROFILE", "etl")
        elif region is not None:
            monkeypatch.setenv("AWS_DEFAULT_REGION", region)
        tags = {"airflow:conn-id": "analytics", "airflow:auth": "connector"}
        if kind is cluster:
            tags["airflow:db-user"] = "etl"
        here = site(kind(tags=tags))
        if served:
            assert here.ask().extra["iam"] is True
        else:
            with pytest.raises(CannotServeError) as refused:
                here.ask()
            assert "RedshiftSQLHook mints in the default region of this process, us-east-1, and" in str(refused.value)
            assert "is in eu-west-1. Use db-user or iam, or set AWS_DEFAULT_REGION" in str(refused.value)

    def test_connector_costs_no_mint(self, site):
        here = site(tagged(auth="connector", db_user="etl"))
        assert here.ask().extra["cluster_identifier"] == "prod"
        assert here.aws.calls == {"list": 2}
