"""Where Airflow has the backend and its settings from, and which connections are stored elsewhere."""

from __future__ import annotations

from configparser import ConfigParser

import pytest

from redshift_secrets.airflow.installation import (
    _Reader,
    describe_installation,
)
from tests.support.airflow_parts import VERSION, from_airflow_3_0, from_airflow_3_2

pytestmark = pytest.mark.airflow

CLASS = "redshift_secrets.RedshiftSecretsBackend"
FILE = "/etc/airflow/airflow.cfg"


class Conf(ConfigParser):
    """The part of Airflow's configuration that is used, with values from variables, as Airflow reads them."""

    sensitive_config_values = frozenset({("secrets", "backend_kwargs"), ("workers", "secrets_backend_kwargs")})

    def __init__(self, text, environ):
        super().__init__(interpolation=None)
        self.read_string(text)
        self.environ = environ

    def get(self, section, option, *, fallback=None, **_options):
        variable = f"AIRFLOW__{section.upper()}__{option.upper()}"
        return self.environ.get(variable, super().get(section, option, fallback=fallback))


def backend(text="", environ=None, section="secrets", version=(3, 3)):
    environ = environ or {}
    reader = _Reader(Conf(text, environ), FILE, environ, version)
    return reader.backend(section, "backend" if section == "secrets" else "secrets_backend")


def test_from_the_file():
    found = backend(f'[secrets]\nbackend = {CLASS}\nbackend_kwargs = {{"regions": ["eu-west-1"], "db_user": "etl"}}')
    assert (found.class_path, found.source) == (CLASS, FILE)
    assert found.settings == {"regions": FILE, "db_user": FILE}
    assert found.ineffective == ()


def test_variables_beat_the_file_and_one_for_a_key_beats_all():
    file = f'[secrets]\nbackend = {CLASS}\nbackend_kwargs = {{"regions": ["eu-west-1"]}}'
    all_of_them = {"AIRFLOW__SECRETS__BACKEND_KWARGS": '{"db_user": "etl", "auth": "iam"}'}
    one = {"AIRFLOW__SECRETS__BACKEND_KWARG__DB_USER": "bi", "AIRFLOW__SECRETS__BACKEND_KWARG__": "nothing"}
    assert backend(file, {**all_of_them, **one}).settings == {
        "auth": "AIRFLOW__SECRETS__BACKEND_KWARGS",
        "db_user": "AIRFLOW__SECRETS__BACKEND_KWARG__DB_USER",
    }


def test_a_command_and_a_secret():
    file = f"[secrets]\nbackend = {CLASS}\nbackend_kwargs_cmd = cat /run/kwargs"
    found = _Reader(Conf(file, {}), FILE, {}, (3, 3))
    assert found._source("secrets", "backend_kwargs") == f"backend_kwargs_cmd in {FILE}"
    variables = {"AIRFLOW__SECRETS__BACKEND_KWARGS_SECRET": "x"}
    assert _Reader(Conf(file, variables), FILE, variables, (3, 3))._source("secrets", "backend_kwargs") == next(
        iter(variables)
    )
    assert found._source("secrets", "use_cache") is None


def test_what_an_older_airflow_does_not_read():
    variable = "AIRFLOW__SECRETS__BACKEND_KWARG__REGIONS"
    found = backend(f"[secrets]\nbackend = {CLASS}", {variable: "eu-west-1"}, version=(3, 1))
    assert found.settings == {}
    assert found.ineffective == (f"{variable} has no effect: Airflow reads it from 3.2 on",)


def test_arguments_of_no_class():
    variable = "AIRFLOW__WORKERS__SECRETS_BACKEND_KWARGS"
    found = backend("[workers]", {variable: '{"regions": []}'}, section="workers")
    assert found.ineffective == (f"{variable} has no effect: [workers] secrets_backend is not set",)


def test_arguments_that_are_no_json_object_have_no_names():
    for text in ("not json", "[1]"):
        assert backend(f"[secrets]\nbackend = {CLASS}\nbackend_kwargs = {text}").settings == {}


@from_airflow_3_2
def test_of_this_airflow(monkeypatch):
    environ = {
        "AIRFLOW__SECRETS__BACKEND": CLASS,
        "AIRFLOW__SECRETS__BACKEND_KWARGS": '{"regions": ["eu-west-1"]}',
        "AIRFLOW__SECRETS__BACKEND_KWARG__DB_USER": "etl",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    found = describe_installation(environ)
    assert tuple(map(int, found.version.split(".")[:2])) == VERSION[:2]
    assert found.servers.settings == {
        "regions": "AIRFLOW__SECRETS__BACKEND_KWARGS",
        "db_user": "AIRFLOW__SECRETS__BACKEND_KWARG__DB_USER",
    }
    assert found.workers is None


@from_airflow_3_0
def test_of_workers_of_this_airflow(monkeypatch):
    monkeypatch.setenv("AIRFLOW__WORKERS__SECRETS_BACKEND", "redshift_secrets.ServerSideBackend")
    workers = describe_installation({"AIRFLOW__WORKERS__SECRETS_BACKEND": "redshift_secrets.ServerSideBackend"}).workers
    assert workers is not None
    assert (workers.section, workers.source) == ("workers", "AIRFLOW__WORKERS__SECRETS_BACKEND")
