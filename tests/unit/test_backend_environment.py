"""`backend_kwargs` as an operator sets them, read by a real Airflow in a process of its own."""

from __future__ import annotations

import json
import os
import sys

import pytest

from tests.support import forked
from tests.support.airflow_parts import VERSION, from_airflow_3_0, from_airflow_3_2

pytestmark = pytest.mark.airflow

SHOW = """
import json
from airflow.configuration import get_custom_secret_backend
backend = get_custom_secret_backend({mode})
settings = backend.settings
print("SETTINGS" + json.dumps({{
    "class": type(backend).__name__,
    "regions": settings.regions,
    "duration_seconds": settings.duration_seconds,
    "allow_admin_secret": settings.allow_admin_secret,
    "db_user": settings.db_user,
    "extra": dict(settings.extra),
    "roles": [account.role_arn for account in settings.accounts],
    "pattern": settings.connections_lookup_pattern and settings.connections_lookup_pattern.pattern,
}}))
"""
BACKEND = {"AIRFLOW__SECRETS__BACKEND": "redshift_secrets.RedshiftSecretsBackend"}
ROLE = "arn:aws:iam::123456789012:role/reader"


def airflow(arguments, environment):
    return forked.run([sys.executable, *arguments], {**os.environ, **environment})


def shown(environment, mode=""):
    done = airflow(["-c", SHOW.format(mode=mode)], environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.partition("SETTINGS")[2])


def kwargs(_section="SECRETS__BACKEND", **values):
    """Texts, each in a variable of its own where this Airflow reads those, else all in one JSON object."""
    if VERSION < (3, 2):
        return {f"AIRFLOW__{_section}_KWARGS": json.dumps(values)}
    return {f"AIRFLOW__{_section}_KWARG__{name.upper()}": value for name, value in values.items()}


def test_texts_from_the_environment_have_the_type_that_they_look_like():
    environment = kwargs(
        regions='["eu-west-1", "us-east-1"]',
        duration_seconds="900",
        allow_admin_secret="true",
        db_user="airflow_etl",
        extra='{"timeout": 5}',
        accounts=json.dumps([{"role_arn": ROLE}]),
        connections_lookup_pattern="^dw_",
    )
    assert shown(BACKEND | environment) == {
        "class": "RedshiftSecretsBackend",
        "regions": ["eu-west-1", "us-east-1"],
        "duration_seconds": 900,
        "allow_admin_secret": True,
        "db_user": "airflow_etl",
        "extra": {"timeout": 5},
        "roles": [ROLE],
        "pattern": "^dw_",
    }


@from_airflow_3_2
def test_a_variable_for_one_key_wins_over_backend_kwargs():
    blob = {"AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"regions": ["eu-west-1"], "db_user": "from_json"})}
    read = shown(BACKEND | blob | kwargs(db_user="from_key"))
    assert (read["regions"], read["db_user"]) == (["eu-west-1"], "from_key")


@from_airflow_3_0
@pytest.mark.parametrize(
    ("own_backend", "db_user"), [(True, "of_workers"), (False, "of_secrets")], ids=["own", "fallback"]
)
def test_workers_have_their_own_backend_or_that_of_secrets(own_backend, db_user):
    environment = BACKEND | kwargs(db_user="of_secrets") | kwargs("WORKERS__SECRETS_BACKEND", db_user="of_workers")
    if own_backend:
        environment |= {"AIRFLOW__WORKERS__SECRETS_BACKEND": BACKEND["AIRFLOW__SECRETS__BACKEND"]}
    assert shown(environment, "worker_mode=True")["db_user"] == db_user


@pytest.mark.parametrize("command", [["-c", "import airflow.configuration"], ["-m", "airflow", "version"]],
                         ids=["import", "airflow-version"])  # fmt: skip
def test_mistakes_stop_airflow_with_one_readable_message_that_lists_them_all(command):
    bad = kwargs(
        duration_seconds="899",
        regons='["eu-west-1"]',
        connections_lookup_pattern="(",
        allow_admin_secret="yes",
        accounts='[{"regions": ["eu-west-1"]}]',
    )
    done = airflow(command, BACKEND | bad)
    assert done.returncode != 0
    message = done.stderr.partition("Invalid backend_kwargs for redshift-secrets:\n")[2]
    assert "Invalid backend_kwargs" not in message, "reported more than once"
    lines = sorted(message.rstrip().splitlines())
    assert len(lines) == 5
    for line, words in zip(
        lines,
        [
            "accounts[0] has no role_arn",
            "allow_admin_secret must be true or false, not 'yes'",
            "connections_lookup_pattern must be a regular expression",
            "duration_seconds must be between 900 and 3600 seconds, not 899",
            "regons: unknown setting (did you mean 'regions'?)",
        ],
        strict=True,
    ):
        assert line.startswith(f"  - {words}")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ('{"regions": ["eu-west-1"],}', "it is not JSON: "),
        ("regions=eu-west-1", "it is not JSON: "),
        ('["eu-west-1"]', "a JSON object, not a list"),
        ('"eu-west-1"', "a JSON object, not a str"),
        ("null", "a JSON object, not a NoneType"),
    ],
)
def test_kwargs_that_airflow_would_drop_stop_it(raw, reason):
    done = airflow(["-c", "import airflow.configuration"], BACKEND | {"AIRFLOW__SECRETS__BACKEND_KWARGS": raw})
    assert done.returncode != 0
    message = done.stderr.partition("Invalid backend_kwargs for redshift-secrets:\n")[2]
    assert message.startswith("  - [secrets] backend_kwargs must be ")
    assert reason in message
    assert "eu-west-1" not in message


@from_airflow_3_2
def test_kwargs_that_are_not_json_stop_it_also_beside_a_variable_for_one_key():
    broken = {"AIRFLOW__SECRETS__BACKEND_KWARGS": '{"regions": [}'} | kwargs(db_user="etl")
    done = airflow(["-c", "import airflow.configuration"], BACKEND | broken)
    assert "[secrets] backend_kwargs must be a JSON object" in done.stderr


def test_kwargs_from_a_command_that_are_not_json_stop_it():
    done = airflow(
        ["-c", "import airflow.configuration"], BACKEND | {"AIRFLOW__SECRETS__BACKEND_KWARGS_CMD": "echo nonsense"}
    )
    assert "[secrets] backend_kwargs must be a JSON object" in done.stderr


@from_airflow_3_0
@pytest.mark.parametrize("backend", ["RedshiftSecretsBackend", "ServerSideBackend"])
def test_kwargs_of_the_workers_that_are_not_json_stop_it(backend):
    workers = {
        "AIRFLOW__WORKERS__SECRETS_BACKEND": f"redshift_secrets.{backend}",
        "AIRFLOW__WORKERS__SECRETS_BACKEND_KWARGS": "{",
    }
    show = "from airflow.configuration import get_custom_secret_backend; get_custom_secret_backend(worker_mode=True)"
    done = airflow(["-c", show], workers)
    assert done.returncode != 0
    assert "[workers] secrets_backend_kwargs must be a JSON object" in done.stderr


@pytest.mark.parametrize("raw", ["", "  ", "{}"])
def test_no_kwargs_are_fine(raw):
    assert shown(BACKEND | {"AIRFLOW__SECRETS__BACKEND_KWARGS": raw})["regions"] == []


def test_kwargs_of_another_backend_are_its_own():
    other = {
        "AIRFLOW__SECRETS__BACKEND": "airflow.secrets.environment_variables.EnvironmentVariablesBackend",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": "{",
    }
    script = "from redshift_secrets import RedshiftSecretsBackend; print(RedshiftSecretsBackend().settings.regions)"
    assert airflow(["-c", script], other).stdout.splitlines()[-1:] == ["()"]
