"""Which side resolves, and what is said of each setting; no secret is."""

from __future__ import annotations

import pytest

from redshift_secrets.airflow.installation import Backend, Installation
from redshift_secrets.operations import doctor
from redshift_secrets.operations.doctor.configuration import airflow_verdicts, configuration_verdicts, fallback_verdicts
from redshift_secrets.settings import Settings

OWN = "redshift_secrets.RedshiftSecretsBackend"
SERVER_SIDE = "redshift_secrets.ServerSideBackend"
OTHER = "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend"
FILE = "/etc/airflow/airflow.cfg"


def installation(servers=OWN, workers=None, settings=None, ineffective=()):
    of_workers = None if workers is None else Backend("workers", workers, FILE, settings or {})
    return Installation("3.3.2", Backend("secrets", servers, FILE, settings or {}, ineffective), of_workers)


@pytest.mark.parametrize(
    ("servers", "workers", "status", "text"),
    [
        (OWN, None, "ok", "every process resolves connections itself"),
        (OWN, SERVER_SIDE, "ok", "the API server resolves connections, and workers ask it"),
        ("", SERVER_SIDE, "warning", "[secrets] backend is not set here. Run doctor where the API server runs"),
        (OTHER, SERVER_SIDE, "warning", f"[secrets] backend is {OTHER} here"),
        (OWN, OWN, "ok", "workers resolve connections with RedshiftSecretsBackend of [workers]"),
        ("", OWN, "warning", "no other process knows them"),
        (OWN, OTHER, "warning", "set [workers] secrets_backend = redshift_secrets.ServerSideBackend"),
    ],
)
def test_which_side_resolves(servers, workers, status, text):
    (found,) = airflow_verdicts(installation(servers, workers))
    assert found.status == status
    assert found.message.startswith("Airflow 3.3.2: ")
    assert text in found.message


def test_each_setting_is_there_with_its_source():
    settings = Settings.from_kwargs(
        {
            "regions": ["eu-west-1"],
            "warehouses": ["clusters", "workgroups"],
            "managed_conn_ids": "^dw_",
            "auto_create": "true",
            "required_tags": {"env": "prod"},
            "hosts": {"prod": "nlb.corp:5439"},
        }
    )
    variable = "AIRFLOW__SECRETS__BACKEND_KWARG__AUTO_CREATE"
    sources = dict.fromkeys(("regions", "warehouses", "managed_conn_ids", "required_tags", "hosts"), FILE) | {
        "auto_create": variable
    }
    backend, of_file, of_variable, defaults = configuration_verdicts(settings, installation(settings=sources))
    assert backend.message == f"[secrets] backend = {OWN}, from {FILE}"
    assert of_file.message == (
        f"from {FILE}: regions = eu-west-1; warehouses = clusters, workgroups; managed_conn_ids = ^dw_; required_tags = {{env: prod}};"
        " hosts = {prod: {host: nlb.corp, port: 5439}}"
    )
    assert of_variable.message == f"from {variable}: auto_create = true"
    assert defaults.message == f"the default: all other {len(defaults.where)} settings"
    assert set(defaults.where).isdisjoint(sources)


def test_of_workers_alone():
    found = configuration_verdicts(Settings(), installation("", OWN))
    assert found[0].message == f"[workers] secrets_backend = {OWN}, from {FILE}"


def test_what_the_command_was_given():
    settings = Settings.from_kwargs({"regions": ["eu-west-3"]})
    found = configuration_verdicts(settings, installation(settings={"regions": FILE}), {"regions": "--region"})
    assert found[1].message == "from --region: regions = eu-west-3"


def test_what_airflow_does_not_read():
    found = configuration_verdicts(
        Settings(), installation(ineffective=("X has no effect: Airflow reads it from 3.2 on",))
    )
    assert [each.message for each in found if each.status == "warning"] == [
        "X has no effect: Airflow reads it from 3.2 on. Remove it"
    ]


def test_no_setting_shows_a_secret():
    from tests.unit.airflow.test_nothing_printed import SETTINGS

    sources = dict.fromkeys(("role_arn", "external_id", "accounts", "config", "extra", "cache", "fallback"), FILE)
    text = " ".join(each.message for each in configuration_verdicts(SETTINGS, installation(settings=sources)))
    assert "planted" not in text
    assert "external_id = ***" in text
    assert "config = ***" in text
    assert "redis_url: rediss://cache:6380/0, key: ***" in text


def test_fallbacks_are_imported():
    fallback = ["json.JSONDecoder", "no_such_package.Vault", "json.JSONDecoda"]
    first, second = fallback_verdicts(Settings.from_kwargs({"fallback": fallback}))
    assert (first.check, first.status) == ("configuration", "problem")
    assert "no_such_package.Vault cannot be imported: no module 'no_such_package'" in first.message
    assert "json has no 'JSONDecoda' (did you mean 'JSONDecoder'?)" in second.message


def test_an_airflow_that_cannot_be_read_is_no_worker_that_asks_the_api_server(monkeypatch):
    def fail(_environ):
        raise ImportError("planted")

    monkeypatch.setattr(doctor.installation, "describe_installation", fail)
    assert doctor.examine_worker({}) == []
