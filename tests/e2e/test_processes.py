"""The shared tiers with real processes: what many tasks cost, and what happens when one of them is killed."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.cache import entry
from redshift_secrets.local.stand_in import StandIn
from redshift_secrets.lookup import catalog
from tests.e2e.conftest import LIST, MINT, MINT_WITH_IAM
from tests.e2e.processes import SETTINGS, Process, access_key, all_at_once, fleet, host, look_up, wait_for_mint
from tests.support.airflow_parts import Refusal
from tests.support.redis_servers import KEY

WAREHOUSES = {
    "clusters": [
        {
            "identifier": "prod",
            "database": {"name": "dwh", "users": ["etl"]},
            "tags": {"airflow:conn-id": "analytics", "airflow:db-user": "etl"},
        },
        {"identifier": "other", "region": "us-east-1", "tags": {"airflow:conn-id": "other", "airflow:auth": "iam"}},
    ]
}


def test_forty_processes_on_a_cold_host_make_one_mint_and_one_listing_of_each_region(stand_in: StandIn) -> None:
    outcomes = all_at_once([Process(look_up) for _ in range(40)])
    assert len(set(outcomes)) == 1
    assert outcomes[0][0] == "IAM:etl"
    calls = stand_in.aws.calls.by_operation()
    assert calls[MINT] == 1
    assert calls[LIST] == 2
    assert calls["resourcegroupstaggingapi:GetResources"] == 2


def test_a_process_on_a_warm_host_asks_aws_for_nothing(stand_in: StandIn) -> None:
    first = look_up()
    stand_in.aws.calls.clear()
    assert all_at_once([Process(look_up)]) == [first]
    assert all_at_once([Process(lambda: look_up("nobody"))]) == [None]
    assert stand_in.aws.calls.total() == 0


def test_children_of_a_process_that_used_the_backend_find_what_it_has_in_memory(stand_in: StandIn) -> None:
    settings = {**SETTINGS, "cache": {"host": False}}
    backend = RedshiftSecretsBackend(**settings)
    parent = backend.get_connection("analytics")
    stand_in.aws.calls.clear()
    outcomes = all_at_once([Process(lambda: backend.get_connection("analytics").password) for _ in range(5)])
    assert set(outcomes) == {parent.password}
    assert stand_in.aws.calls.total() == 0


def test_killing_the_process_that_mints_frees_the_others(stand_in: StandIn) -> None:
    stand_in.aws.faults.add(operation=MINT, kind="black_hole", times=1)
    minting = Process(look_up)
    minting.begin()
    wait_for_mint(stand_in)
    others = [Process(look_up) for _ in range(5)]
    for process in others:
        process.begin()
    minting.kill()
    outcomes = [process.outcome() for process in others]
    assert {user for user, _ in outcomes} == {"IAM:etl"}
    assert len(set(outcomes)) == 1
    assert stand_in.aws.calls.by_operation()[MINT] == 2  # that of the killed process, and one more


def test_all_processes_share_one_failed_mint(stand_in: StandIn) -> None:
    stand_in.aws.faults.add(operation=MINT, kind="access_denied")
    outcomes = all_at_once([Process(look_up) for _ in range(8)])
    assert all(f"{Refusal.__name__}: connection 'analytics' cannot be served" in each for each in outcomes)
    assert stand_in.aws.calls.by_operation()[MINT] == 1


def test_once_one_process_has_found_aws_silent_the_others_are_refused_without_asking(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "_FIRST_PAUSE_SECONDS", entry._LONGEST_PAUSE_SECONDS)  # on a busy machine, too

    def look_up_briefly(conn_id: str = "analytics") -> Any:
        return look_up(conn_id, aws_timeout_seconds=10)

    others = [Process(look_up_briefly) for _ in range(6)]
    assert all_at_once([Process(lambda: look_up_briefly("other"))])[0] is not None
    stand_in.aws.faults.add(operation=MINT, kind="black_hole")
    (first,) = all_at_once([Process(look_up_briefly)])
    assert "Timed out after 10 s" in first or "(TimedOut)" in first
    requests = stand_in.aws.calls.by_operation()[MINT]
    assert all("analytics' cannot be served" in outcome for outcome in all_at_once(others))
    assert stand_in.aws.calls.by_operation()[MINT] == requests


def test_two_callers_on_one_host_are_kept_apart(stand_in: StandIn) -> None:
    for user in ("alice", "bob"):
        key = access_key(stand_in, user)
        for _ in range(2):
            ((login, _),) = all_at_once([Process(lambda: look_up("other"), key)])
            assert login == f"IAM:{user}"
    assert stand_in.aws.calls.by_operation()[MINT_WITH_IAM] == 2


@pytest.mark.parametrize(
    "changes", [{"db_groups": ["loaders"]}, {"duration_seconds": 900}, {"db_user": "x"}, {"required_tags": {}}]
)
def test_two_configurations_on_one_host_are_kept_apart(stand_in: StandIn, changes: dict[str, Any]) -> None:
    one = look_up()
    stand_in.aws.calls.clear()
    other = look_up(**changes)
    assert (one == other) is (changes == {"required_tags": {}})  # a setting with its default is no other configuration
    assert stand_in.aws.calls.by_operation().get(MINT, 0) == (0 if one == other else 1)


def test_a_host_without_a_store_still_works(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert look_up(cache={"path": str(file / "below")})[0] == "IAM:etl"
    assert look_up(cache={"host": False})[0] == "IAM:etl"


def test_the_store_has_neither_passwords_nor_users_in_plain_text(stand_in: StandIn, host_store: Path) -> None:
    _, password = look_up()
    files = [path for path in host_store.rglob("*") if path.is_file()]
    assert files
    for path in files:
        content = path.read_bytes()
        assert password.encode() not in content
        assert b"IAM:etl" not in content
        assert path.stat().st_mode & 0o077 == 0


def test_four_cold_hosts_of_five_processes_with_one_redis_make_one_mint(
    stand_in: StandIn, tmp_path: Path, redis: str
) -> None:
    processes = [
        Process(lambda: look_up(cache=fleet(redis)), host(tmp_path, f"host{number % 4}")) for number in range(20)
    ]
    outcomes = all_at_once(processes)
    assert len(set(outcomes)) == 1, outcomes
    calls = stand_in.aws.calls.by_operation()
    assert calls[MINT] == 1
    assert calls[LIST] == 2


def test_hosts_with_different_callers_share_nothing_through_redis(
    stand_in: StandIn, tmp_path: Path, redis: str
) -> None:
    for user in ("carol", "dave"):
        environment = {**host(tmp_path, user), **access_key(stand_in, user)}
        ((login, _),) = all_at_once([Process(lambda: look_up("other", cache=fleet(redis)), environment)])
        assert login == f"IAM:{user}"


def test_a_host_whose_caller_sts_does_not_confirm_uses_no_redis(stand_in: StandIn, tmp_path: Path, redis: str) -> None:
    look_up(cache=fleet(redis))
    stand_in.aws.calls.clear()
    stand_in.aws.faults.add(operation="sts:GetCallerIdentity", kind="access_denied")
    (outcome,) = all_at_once([Process(lambda: look_up(cache=fleet(redis)), host(tmp_path, "unknown"))])
    assert outcome[0] == "IAM:etl"
    assert stand_in.aws.calls.by_operation()[MINT] == 1


def test_what_is_wrong_with_the_network_of_one_host_is_known_there_and_nowhere_else(
    stand_in: StandIn, tmp_path: Path, redis: str
) -> None:
    sick = {**host(tmp_path, "sick"), "AWS_ENDPOINT_URL_REDSHIFT": "http://127.0.0.1:1"}

    def task() -> Any:
        return look_up(cache=fleet(redis), managed_conn_ids="^analytics$")

    for refused in [all_at_once([Process(task, sick)]) for _ in range(2)]:
        assert "(Unreachable)" in refused[0]
    healthy = all_at_once([Process(task, host(tmp_path, name)) for name in ("one", "two")])
    assert {user for user, _ in healthy} == {"IAM:etl"}
    # A host that has just started serves what the others have, though it cannot reach Redshift's API itself.
    new = {**host(tmp_path, "new"), "AWS_ENDPOINT_URL_REDSHIFT": "http://127.0.0.1:1"}
    assert {*healthy, *all_at_once([Process(task, new)])} == {healthy[0]}


def test_what_aws_denies_one_host_the_others_do_not_ask_for(
    stand_in: StandIn, tmp_path: Path, redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "_FIRST_PAUSE_SECONDS", entry._LONGEST_PAUSE_SECONDS)  # on a busy machine, too
    stand_in.aws.faults.add(operation=MINT, kind="access_denied")
    for name in ("one", "two", "three"):
        (refused,) = all_at_once([Process(lambda: look_up(cache=fleet(redis)), host(tmp_path, name))])
        assert "(AccessDenied)" in refused
    assert stand_in.aws.calls.by_operation()[MINT] == 1


def test_a_lookup_does_not_need_redis(stand_in: StandIn) -> None:
    assert look_up(cache={"redis_url": "redis://127.0.0.1:1/0", "key": KEY})[0] == "IAM:etl"


@pytest.mark.parametrize("conn_ids_in_one_row", [32, 0])
def test_a_missing_row_is_refreshed_and_does_not_mean_that_nobody_claims_the_conn_id(
    stand_in: StandIn, host_store: Path, monkeypatch: pytest.MonkeyPatch, conn_ids_in_one_row: int
) -> None:
    monkeypatch.setattr(catalog, "_ONE_ROW", conn_ids_in_one_row)
    look_up()
    with contextlib.closing(sqlite3.connect(host_store / "store.sqlite")) as database, database:
        query = "DELETE FROM rows WHERE CAST(name AS TEXT) IN (?, ?)"
        assert database.execute(query, catalog.rows_of("analytics")).rowcount > 0
    assert look_up()[0] == "IAM:etl"
    assert look_up("nobody") is None


def test_a_new_caller_in_the_environment_is_used_by_the_next_lookup(stand_in: StandIn) -> None:
    def two_lookups() -> Any:
        backend = RedshiftSecretsBackend(**SETTINGS)
        first = backend.get_connection("other").login
        os.environ.update(erin)
        return first, RedshiftSecretsBackend(**SETTINGS).get_connection("other").login

    erin = access_key(stand_in, "erin")
    assert all_at_once([Process(two_lookups)]) == [("IAM:airflow", "IAM:erin")]
    assert look_up("other")[0] == "IAM:airflow"


@pytest.mark.parametrize("host", [True, False])
def test_what_an_old_backend_finds_as_another_caller_is_not_found_by_a_new_one(stand_in: StandIn, host: bool) -> None:
    settings = {**SETTINGS, "cache": {**SETTINGS.get("cache", {}), "host": host}}
    erin = access_key(stand_in, "erin")

    def three_lookups() -> Any:
        before = {name: os.environ.get(name) for name in erin}
        old = RedshiftSecretsBackend(**settings)
        found = [old.get_connection("analytics").login]
        os.environ.update(erin)
        found.append(old.get_connection("other").login)
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
        return [*found, RedshiftSecretsBackend(**settings).get_connection("other").login]

    assert all_at_once([Process(three_lookups)]) == [["IAM:etl", "IAM:erin", "IAM:airflow"]]


def test_a_lookup_with_the_fleet_tier_alone_ends_where_sts_does_not_answer(stand_in: StandIn, redis: str) -> None:
    stand_in.aws.faults.add(operation="*", kind="black_hole")  # until the test ends
    cache = {"host": False, **fleet(redis)}
    assert all_at_once([Process(lambda: look_up(cache=cache, aws_timeout_seconds=2))]) == [None]
