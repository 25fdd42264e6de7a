"""Where stored connections are read from: what this Airflow asks, in its order, or what the command names."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from redshift_secrets.airflow.stored import Place, StoredConnection, StoredError
from redshift_secrets.aws import stored as aws_stored
from redshift_secrets.aws.stored import StoredText
from redshift_secrets.operations.migrate import reading
from redshift_secrets.operations.migrate.reading import Source, read_stored, sources
from redshift_secrets.settings import Settings

PROVIDER = "airflow.providers.amazon.aws.secrets."
SECRETS = {
    "backend": f"{PROVIDER}secrets_manager.SecretsManagerBackend",
    "backend_kwargs": {
        "connections_prefix": "team/connections",
        "profile_name": "data",
        "sep": "/",
        "extra_conn_words": {"user": ["who"]},
    },
}
PARAMETERS = {"backend": f"{PROVIDER}systems_manager.SystemsManagerParameterStoreBackend"}
NONE = {**PARAMETERS, "backend_kwargs": {"connections_prefix": None}}


def settings(*fallback):
    return Settings.from_kwargs({"regions": ["eu-west-1"], "fallback": list(fallback)})


def named(found):
    return [(each.kind, each.name) for each in found]


def test_by_default_it_reads_what_airflow_asks_in_its_order():
    assert named(sources((), settings())) == [("environment", ""), ("database", "")]
    local = {
        "backend": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
        "backend_kwargs": {"connections_file_path": "/c.json"},
    }
    vault = {"backend": "airflow.providers.hashicorp.secrets.vault.VaultBackend"}
    assert named(sources((), settings(SECRETS, PARAMETERS, local, vault, NONE))) == [
        ("secrets-manager", "team/connections"),
        ("parameter-store", "airflow/connections"),
        ("file", "/c.json"),
        ("environment", ""),
        ("database", ""),
    ]


def test_named_places(tmp_path: Path):
    path = tmp_path / "c.json"
    path.write_text("{}")
    found = sources(("database", "secrets-manager:p/x", str(path), "parameter-store", "environment"), settings())
    assert named(found) == [
        ("secrets-manager", "p/x"),
        ("parameter-store", "airflow/connections"),
        ("environment", ""),
        ("database", ""),
        ("file", str(path)),
    ]
    (configured,) = sources(("secrets-manager",), settings(SECRETS))
    assert configured.kwargs["profile_name"] == "data"
    (other,) = sources(("secrets-manager:elsewhere",), settings(SECRETS))
    assert (other.name, dict(other.kwargs)) == ("elsewhere", {})


@pytest.mark.parametrize(
    ("name", "hint"), [("secret-manager", "did you mean 'secrets-manager'?"), ("/no/such/file.json", "or a file")]
)
def test_a_place_that_there_is_not(name, hint):
    with pytest.raises(StoredError) as caught:
        sources((name,), settings())
    assert hint in str(caught.value)


@pytest.fixture
def places(monkeypatch):
    """Connections by kind of place; the settings that AWS was asked with are in `asked`."""

    class Places:
        def __init__(self):
            self.database: list[StoredConnection] | Exception = []
            self.secrets: list[StoredText] = []
            self.asked: list[Settings] = []

    found = Places()

    class FakeTexts:
        region = "eu-west-1"

        def __init__(self, given):
            found.asked.append(given)

        def secrets(self, _prefix, _sep, wanted):
            return [each for each in found.secrets if wanted(each.conn_id)]

    def database(conn_ids, passwords):
        if isinstance(found.database, Exception):
            raise found.database
        return [each for each in found.database if conn_ids is None or each.conn_id in conn_ids]

    monkeypatch.setattr(aws_stored, "StoredTexts", FakeTexts)
    monkeypatch.setattr(reading.metadata_database, "database_connections", database)
    monkeypatch.setattr(reading.metadata_database, "database", lambda: "the metadata database")
    monkeypatch.setattr(reading.configuration, "has_teams", lambda: False)
    return found


def in_database(conn_id, **fields):
    return StoredConnection(conn_id, Place("database", conn_id), "redshift", "prod", **fields)


def test_what_airflow_uses_comes_first_and_a_variable_takes_the_spelling_of_another_place(places):
    places.database = [
        in_database("Analytics"),
        in_database("bi"),
        in_database("ledger", team="finance"),
        in_database("ledger"),
        StoredConnection("ledger", Place("file", "f.json"), "redshift", "prod", team="Finance"),
    ]
    environ = {"AIRFLOW_CONN_ANALYTICS": '{"conn_type": "postgres"}', "AIRFLOW_CONN_OWN": '{"conn_type": "redshift"}'}
    found = read_stored(settings(), sources((), settings()), environ)
    assert [
        (each.conn_id, each.used.team, [entry.place.kind for entry in each.entries]) for each in found.conn_ids
    ] == [
        ("Analytics", None, ["environment", "database"]),
        ("bi", None, ["database"]),
        ("ledger", None, ["database"]),
        ("ledger", "finance", ["database", "file"]),
        ("own", None, ["environment"]),
    ]
    assert found.conn_ids[0].used.conn_type == "postgres"
    assert found.counts == {"the environment": 2, "the metadata database": 5}


def test_some_conn_ids_alone(places):
    places.database = [in_database("Analytics"), in_database("bi")]
    environ = {"AIRFLOW_CONN_ANALYTICS": '{"conn_type": "postgres"}', "AIRFLOW_CONN_BI": '{"conn_type": "postgres"}'}
    found = read_stored(settings(), sources((), settings()), environ, ["Analytics"])
    assert [(each.conn_id, len(each.entries)) for each in found.conn_ids] == [("Analytics", 2)]
    only = read_stored(settings(), [Source("environment")], environ, ["Analytics"])
    assert [each.conn_id for each in only.conn_ids] == ["Analytics"]


def test_a_secret_is_read_as_its_backend_reads_it(places):
    text = '{"engine": "redshift", "who": "etl", "pass": "planted"}'
    places.secrets = [StoredText("team/connections/a", "a", text), StoredText("team/connections/b", "b", None)]
    places.secrets.append(StoredText("team/connections/c", "c", None, "its key is disabled"))
    given = settings(SECRETS)
    found = read_stored(given, sources(("secrets-manager",), given), {})
    a, b, c = (each.used for each in found.conn_ids)
    assert c.problem == "its key is disabled"
    assert (a.conn_type, a.login, a.has_password, a.password) == ("redshift", "etl", True, None)
    assert a.place == Place("secret", "team/connections/a", "eu-west-1")
    assert b.problem == "the secret is binary, which Airflow cannot read"
    assert places.asked[0].profile_name == "data"
    assert "planted" not in repr(found)


def test_a_place_that_cannot_be_read_leaves_the_others(places):
    places.database = StoredError("the metadata database is away")
    found = read_stored(settings(), sources((), settings()), {"AIRFLOW_CONN_A": '{"conn_type": "redshift"}'})
    assert found.failures == ("the metadata database is away",)
    assert found.counts == {"the environment": 1}


def test_a_database_that_does_not_answer_is_not_waited_for(places, monkeypatch):
    answers = threading.Event()
    monkeypatch.setattr(reading, "_DATABASE_SECONDS", 0.0)
    monkeypatch.setattr(reading.metadata_database, "database_connections", lambda *_, **__: answers.wait(30))
    found = read_stored(settings(), [Source("database")], {})
    answers.set()
    assert found.failures == ("the metadata database took longer than 0 s",)
