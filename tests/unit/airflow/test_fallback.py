"""The other backends of a site: asked in order, only for what is not managed, and none of them breaks another."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
from unittest import mock

import pytest

from redshift_secrets.airflow.fallback import Fallbacks
from redshift_secrets.lookup import caller
from redshift_secrets.settings import Fallback, Settings
from tests.support.airflow_parts import Connection, Refusal, ServerConnection, refusal_is_final, used
from tests.support.fakes import Clock, FakeAws, cluster, denied
from tests.unit.test_backend import backend_of

TOKEN = "hvs.token-of-the-vault"
calls: list[tuple] = []


class Site:
    """A backend from before Airflow had teams."""

    def __init__(self, name: str = "site", token: str | None = None) -> None:
        calls.append(("constructed", name))
        self.name = name

    def get_connection(self, conn_id):
        calls.append((self.name, conn_id))
        return Connection(conn_id=conn_id, conn_type="http", host=self.name) if conn_id.startswith(self.name) else None

    def get_variable(self, key):
        return f"variable of {self.name}" if key == self.name else None

    def get_config(self, key):
        return f"configuration of {self.name}" if key == self.name else None


class WithTeams(Site):
    def get_connection(self, conn_id, team_name=None):
        return Connection(conn_id=conn_id, conn_type="http", host=f"team {team_name}")


class Broken(Site):
    def __init__(self, token: str | None = None) -> None:
        calls.append(("constructed", "broken"))
        raise RuntimeError(f"cannot log in with {token}")


class Failing(Site):
    def get_connection(self, conn_id):
        raise ValueError(f"lost {TOKEN}")

    get_variable = get_config = get_connection


class Denying(Site):
    def get_connection(self, conn_id):
        raise Refusal("not for you")


def entry(backend: type, **kwargs) -> dict:
    return {"backend": f"{__name__}.{backend.__name__}", "backend_kwargs": kwargs}


@pytest.fixture(autouse=True)
def no_calls():
    calls.clear()


@pytest.fixture
def aws() -> FakeAws:
    return FakeAws(Clock(), [cluster()])


def test_they_are_asked_in_order_and_constructed_when_needed(aws):
    backend = backend_of(aws, fallback=[entry(Site, name="first"), entry(Site, name="second")])
    assert backend.get_connection("analytics").conn_type == "redshift"
    assert calls == []
    assert backend.get_connection("first-one").host == "first"
    assert calls == [("constructed", "first"), ("first", "first-one")]
    assert backend.get_connection("second-one").host == "second"
    assert backend.get_connection("neither") is None
    assert [call for call in calls if call[0] == "constructed"] == [("constructed", "first"), ("constructed", "second")]


def test_variables_and_configuration_come_from_them_too(aws):
    backend = backend_of(aws, fallback=[entry(Site, name="first"), entry(Site, name="second")])
    assert [backend.get_variable(key) for key in ("second", "none")] == ["variable of second", None]
    assert [backend.get_config(key) for key in ("first", "none")] == ["configuration of first", None]
    assert not aws.calls


def test_an_event_loop_gets_variables_off_it_and_at_once_where_there_are_none(aws):
    threads = []

    class Recording(Site):
        def get_variable(self, key, team_name=None):
            threads.append(threading.current_thread())
            return f"{team_name}: {super().get_variable(key)}" if team_name else super().get_variable(key)

    with mock.patch(f"{__name__}.Site", Recording):
        backend = backend_of(aws, fallback=[{"backend": f"{__name__}.Site", "backend_kwargs": {"name": "first"}}])
        found = [asyncio.run(backend.aget_variable(key=key)) for key in ("first", "none")]
        assert asyncio.run(backend.aget_variable("first", team_name="red")) == "red: variable of first"
    assert found == ["variable of first", None]
    assert len(threads) == 3
    assert threading.main_thread() not in threads

    without = backend_of(aws).aget_variable(key="first")
    with pytest.raises(StopIteration) as ended:
        without.send(None)  # it needs no event loop
    assert ended.value.value is None
    assert not aws.calls


def test_a_managed_conn_id_that_cannot_be_served_is_not_looked_up_in_them(aws):
    aws.mint_error = denied()
    backend = backend_of(aws, fallback=[entry(Site, name="analytics")])
    with pytest.raises(Refusal, match="cannot be served"):
        used(backend.get_connection("analytics"))
    assert calls == []


def test_a_conn_id_that_the_pattern_rules_out_goes_to_them_at_once(aws):
    backend = backend_of(aws, fallback=entry(Site), connections_lookup_pattern="^rs_")
    assert backend.get_connection("site").host == "site"
    assert not aws.calls


def reports_in(caplog):
    """The errors of fallbacks alone: a refresh of another test may end at any moment, and fail."""
    of_fallbacks = [record for record in caplog.records if record.name == "redshift_secrets.airflow.fallback"]
    return [record.getMessage() for record in of_fallbacks if record.levelno == logging.ERROR]


def test_a_broken_one_is_reported_once_without_its_secrets_and_skipped(aws, caplog):
    backend = backend_of(aws, fallback=[entry(Broken, token=TOKEN), entry(Failing), entry(Site)])
    for _ in range(3):
        assert backend.get_connection("site").host == "site"
    reports = reports_in(caplog)
    assert len(reports) == 2
    assert "Broken could not be constructed (RuntimeError)" in reports[0]
    assert "Failing could not look up a connection (ValueError)" in reports[1]
    assert TOKEN not in caplog.text
    assert calls.count(("constructed", "broken")) == 1


def test_a_broken_one_is_constructed_again_after_a_while():
    now = [0.0]
    fallbacks = Fallbacks([Fallback(f"{__name__}.Broken")], lambda: None, monotonic=lambda: now[0])
    for now[0] in (0.0, 9.9, 10.1):
        assert fallbacks.get_config("x") is None
    assert calls == [("constructed", "broken")] * 2


@refusal_is_final
def test_a_final_no_of_one_is_passed_on(aws):
    backend = backend_of(aws, fallback=[entry(Denying), entry(Site)])
    with pytest.raises(Refusal, match="not for you"):
        backend.get_connection("site")


def test_the_team_is_told_to_those_that_take_it(aws):
    assert backend_of(aws, fallback=entry(WithTeams)).get_connection("x", team_name="red").host == "team red"
    assert backend_of(aws, fallback=entry(Site)).get_connection("site", team_name="red").host == "site"


def test_airflows_own_local_files_in_order_and_one_whose_file_is_missing(aws, tmp_path, caplog):
    def files(name: str, connections: dict, variables: dict | None = None) -> dict:
        kwargs = {}
        for kind, content in (("connections", connections), ("variables", variables)):
            if content is not None:
                file = tmp_path / f"{name}-{kind}.json"
                file.write_text(json.dumps(content))
                kwargs[f"{kind}_file_path"] = str(file)
        return {"backend": "airflow.secrets.local_filesystem.LocalFilesystemBackend", "backend_kwargs": kwargs}

    missing = files("missing", {})
    (tmp_path / "missing-connections.json").unlink()
    first = files("first", {"mail": "smtp://first.internal", "analytics": "redshift://me:old-password@old.internal"})
    second = files(
        "second", {"mail": "smtp://second.internal", "orders": "http://orders.internal"}, {"bucket": "s3://b"}
    )
    backend = backend_of(aws, ServerConnection, fallback=[missing, first, second])
    hosts = {conn_id: backend.get_connection(conn_id).host for conn_id in ("mail", "orders")}
    assert hosts == {"mail": "first.internal", "orders": "orders.internal"}
    assert backend.get_connection("analytics").login == "IAMR:airflow"
    assert (backend.get_variable("bucket"), backend.get_connection("nobodys")) == ("s3://b", None)
    reports = reports_in(caplog)
    assert len(reports) == 1
    assert "LocalFilesystemBackend could not look up a connection" in reports[0]


def test_a_conn_id_of_another_team_is_looked_up_in_them(aws):
    aws.warehouses[:] = [cluster(tags={"airflow:conn-id": "site", "airflow:team": "red"})]
    backend = backend_of(aws, fallback=[entry(Site)])
    assert backend.get_connection("site", team_name="red").conn_type == "redshift"
    assert backend.get_connection("site", team_name="blue").host == "site"


def test_backend_kwargs_are_in_no_repr_and_change_no_cache_key():
    settings = Settings.from_kwargs({"fallback": json.dumps([entry(Site, token=TOKEN)])})
    assert settings.fallback[0].kwargs == {"token": TOKEN}
    assert TOKEN not in repr(settings)
    assert caller.settings_fingerprint(settings) == caller.settings_fingerprint(Settings())


def test_a_fallback_that_reads_configuration_from_a_secrets_backend_causes_no_recursion(tmp_path):
    """Airflow looks a `_secret` option up in a new instance of this backend, whose fallback reads that option while it is
    constructed."""
    (tmp_path / "site_backend.py").write_text(
        textwrap.dedent("""
            class Reading:
                made = 0
                def __init__(self):
                    Reading.made += 1
                    from airflow.configuration import conf
                    conf.get("core", "fernet_key")
                def get_config(self, key):
                    return "key of the site" if key == "the-key" else None
                def get_variable(self, key):
                    return None
        """)
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from airflow.configuration import conf; import site_backend;"
            "print(conf.get('core', 'fernet_key'), site_backend.Reading.made < 9)",
        ],
        env={
            **os.environ,
            "PYTHONPATH": str(tmp_path),
            "AIRFLOW__SECRETS__BACKEND": "redshift_secrets.RedshiftSecretsBackend",
            "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"fallback": "site_backend.Reading"}),
            "AIRFLOW__CORE__FERNET_KEY_SECRET": "the-key",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["key of the site True"], done.stderr
