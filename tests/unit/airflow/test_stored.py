"""Stored connections are read in every form that Airflow reads, without their passwords unless these are asked for."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import yaml
from airflow.models import Connection

from redshift_secrets.airflow.stored import (
    Place,
    StoredError,
    environment_connections,
    file_connections,
    from_text,
)
from redshift_secrets.model import reveal

pytestmark = pytest.mark.airflow

PLANTED = "pl@nted/pass word+=:?&#%é"
HERE = Place("environment", "AIRFLOW_CONN_ANALYTICS")
EXTRA = {"iam": True, "cluster_identifier": "prod", "timeout": 3, "aws_secret_access_key": PLANTED, "note": PLANTED}
FIELDS = {
    "conn_type": "redshift",
    "host": "Prod.Example",
    "login": "e tl/x",
    "password": PLANTED,
    "schema": "dwh",
    "port": 5440,
    "extra": EXTRA,
}


def text_of(kind: str, fields=FIELDS) -> str:
    if kind == "uri":
        return Connection(**fields).get_uri()
    if kind == "uri of postgresql":
        return Connection(**fields).get_uri().replace("redshift://", "postgresql://", 1)
    if kind == "json with a text as extra":
        return json.dumps({**fields, "extra": json.dumps(fields["extra"])})
    if kind == "json with a port as a text":
        return json.dumps({**fields, "port": str(fields["port"])})
    return json.dumps(fields)


KINDS = ("uri", "uri of postgresql", "json", "json with a text as extra", "json with a port as a text")


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_has_the_same_fields(kind):
    found = from_text("analytics", text_of(kind), HERE)
    assert found.conn_type == ("postgres" if "postgresql" in kind else "redshift")
    assert (found.host.lower(), found.port, found.schema, found.login) == ("prod.example", 5440, "dwh", "e tl/x")
    assert (found.has_password, found.problem) == (True, None)
    assert dict(found.extra) == {
        "iam": True, "cluster_identifier": "prod", "timeout": 3, "aws_secret_access_key": None, "note": None,
    }  # fmt: skip


@pytest.mark.attempt("read a stored password in what `migrate` prints")
@pytest.mark.parametrize("kind", KINDS)
def test_no_password_is_kept_or_shown_unless_it_is_asked_for(kind):
    found = from_text("analytics", text_of(kind), HERE)
    assert found.password is None
    everything = repr([getattr(found, name) for name in found.__struct_fields__ if name != "extra"])
    assert PLANTED not in everything + repr(found) + repr(dict(found.extra)) + str(found)
    asked = from_text("analytics", text_of(kind), HERE, passwords=True)
    assert reveal(asked.password) == PLANTED
    assert asked.extra["aws_secret_access_key"] == PLANTED
    assert PLANTED not in repr(asked) + str(asked) + f"{asked.password}"
    with pytest.raises(TypeError):
        msgspec.json.encode(asked)


@pytest.mark.parametrize(
    ("uri", "login", "password", "host"),
    [
        ("redshift://etl:secret@prod", "etl", "secret", "prod"),
        ("redshift://etl@prod", "etl", "", "prod"),
        ("redshift://:secret@prod", "", "secret", "prod"),
        ("redshift://prod:5439/dwh?x=a:b", "", "", "prod"),
        ("redshift://us@er:secret@prod/dwh", "us@er", "secret", "prod"),
        ("redshift://etl:se:cr:et@prod/dwh", "etl", "se:cr:et", "prod"),
        ("redshift://etl:se@cret@prod", "etl", "se@cret", "prod"),
        ("redshift://etl:@prod", "etl", "", "prod"),
        ("redshift://https://etl:secret@prod/dwh", "etl", "secret", "https://prod"),
        ("redshift:///?iam=true", "", "", ""),
    ],
)
def test_uris_are_read_as_airflow_reads_them(uri, login, password, host):
    found = from_text("a", uri, HERE, passwords=True)
    try:
        of_airflow = Connection(uri=uri)
    except Exception:
        assert found.problem is not None
        return
    assert (found.login, reveal(found.password or ""), found.host) == (login, password, host)
    assert (of_airflow.login or "", of_airflow.password or "", of_airflow.host or "") == (login, password, host)
    assert (of_airflow.port, of_airflow.schema or "") == (found.port, found.schema)


@pytest.mark.parametrize(
    "text",
    [
        "redshift://etl:planted@prod:54x9/dwh",
        f"redshift://etl:{PLANTED}@prod/dwh",
        "redshift://etl:12/planted@prod/dwh",
        "redshift://etl:12#planted@prod/dwh",
        "redshift://etl:12?planted@prod/dwh",
        '{"password": "planted", ',
        '{"password": "planted", "extra": "[1]"}',
        '{"password": "planted", "port": "planted"}',
        "a://b://c://planted",
    ],
)
def test_what_cannot_be_read_is_said_without_repeating_it(text):
    found = from_text("analytics", text, HERE)
    assert found.problem.startswith(("Airflow cannot read it", "its URI has an @ after the host"))
    assert "planted" not in repr(found).replace(repr(HERE), "")


@pytest.mark.parametrize("extra", ["not json", "[1]", '"{}"', "null", "planted"])
def test_of_an_extra_that_is_no_object_that_is_said(tmp_path: Path, extra):
    fields = {"conn_type": "redshift", "password": "planted", "extra": extra}
    assert from_text("a", json.dumps(fields), HERE).problem == "Airflow cannot read it: its extra is not a JSON object"
    (tmp_path / "a.json").write_text(json.dumps({"a": fields}))
    (found,) = file_connections(tmp_path / "a.json")
    assert (found.problem, found.conn_type) == ("its extra is not a JSON object", "redshift")
    assert from_text("a", json.dumps({**fields, "conn_type": "mysql"}), HERE).conn_type == "mysql"


def test_an_extra_of_spaces_is_none():
    assert dict(from_text("a", '{"conn_type": "redshift", "extra": "  "}', HERE).extra) == {}


@pytest.mark.parametrize("quote", ["'", '"'])
def test_quotes_that_a_shell_would_have_taken_away(tmp_path: Path, quote):
    text = f"{quote}redshift://etl:planted@prod/dwh{quote}"
    found = from_text("a", text, HERE)
    assert "it begins with a quote" in found.problem
    assert "planted" not in repr(found)
    fields = json.dumps({"conn_type": "redshift", "host": "prod"})
    quoted = fields.replace('"', '\\"') if quote == '"' else fields
    odd = "odd='redshift://a' and more"
    (tmp_path / "a.env").write_text(f"export AIRFLOW_CONN_A={text}\nb={quote}{quoted}{quote}\n{odd}\nopen={quote}x\n")
    a, b, more, unclosed = file_connections(tmp_path / "a.env")
    assert (a.login, a.host, a.schema, a.has_password) == ("etl", "prod", "dwh", True)
    assert (b.conn_type, b.host) == ("redshift", "prod")
    assert "it begins with a quote" in more.problem
    assert "it begins with a quote" in unclosed.problem


@pytest.mark.parametrize("scheme", ["redshift+redshift_connector", "redshift_connector", "postgres_x"])
def test_a_type_that_airflow_does_not_find_in_a_uri(scheme):
    found = from_text("a", f"{scheme}://etl:planted@prod:5439/dev", HERE)
    assert f"its URI begins with {scheme}, in which Airflow finds no type" in found.problem
    assert "planted" not in repr(found)
    assert (Connection(uri=f"{scheme}://etl:x@prod:5439/dev").conn_type or "") == ""


def test_the_fields_of_a_secret_may_be_called_otherwise():
    text = json.dumps(
        {"engine": "redshift", "server": "prod", "username": "etl", "pass": "x", "database": "dwh", "kind": "y"}
    )
    found = from_text("a", text, HERE, words={"extra": ["more"]})
    assert (found.conn_type, found.host, found.login, found.schema) == ("redshift", "prod", "etl", "dwh")
    assert found.has_password
    text = json.dumps({"dialect": "redshift", "where": "prod", "more": {"iam": True}})
    found = from_text("a", text, HERE, words={"conn_type": ["dialect"], "host": ["where"], "extra": ["more"]})
    assert (found.conn_type, found.host, dict(found.extra)) == ("redshift", "prod", {"iam": True})


def test_variables():
    environ = {
        "AIRFLOW_CONN_ANALYTICS": "redshift://prod",
        "AIRFLOW_CONN_BI": '{"conn_type": "postgres"}',
        "AIRFLOW_CONN_": "redshift://x",
        "AIRFLOW_CONN_EMPTY": "",
        "AIRFLOW_CONN__FINANCE___LEDGER": "redshift://fin",
        "PATH": "/bin",
    }
    found = environment_connections(environ, teams=True)
    assert [(each.conn_id, each.team, each.conn_type) for each in found] == [
        ("analytics", None, "redshift"),
        ("bi", None, "postgres"),
        ("ledger", "finance", "redshift"),
    ]
    assert environment_connections(environ)[-1].conn_id == "_finance___ledger"


@pytest.mark.parametrize("suffix", ["json", "yaml", "yml", "env", "env with json", "txt"])
def test_files(tmp_path: Path, suffix):
    path = tmp_path / f"connections.{suffix.split()[0]}"
    entries = {"analytics": {**FIELDS, "extra": json.dumps(EXTRA)}, "bi": "redshift://etl:x@bi"}
    if suffix in ("json", "txt"):
        path.write_text(json.dumps(entries))
    elif suffix in ("yaml", "yml"):
        path.write_text(yaml.safe_dump(entries))
    else:
        form = "json" if "json" in suffix else "uri"
        path.write_text(f"# mine\n\nanalytics={text_of(form)}\nexport AIRFLOW_CONN_BI=redshift://etl:x@bi\n")
    analytics, bi = file_connections(path)
    assert (analytics.conn_id, analytics.host.lower(), analytics.schema) == ("analytics", "prod.example", "dwh")
    assert (bi.conn_id, bi.host, bi.place) == ("bi", "bi", Place("file", str(path)))
    assert PLANTED not in repr([analytics, bi])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "[planted"),
        ("a.json", "[]"),
        ("a.yaml", "{planted"),
        ("a.env", "planted"),
        ("a.json", "[" * 5000),
        ("a.yaml", "[" * 5000),
    ],
)
def test_what_is_no_file_of_connections(tmp_path: Path, name, text):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(StoredError) as caught:
        file_connections(path)
    assert "planted" not in str(caught.value)
    assert str(path) in str(caught.value)
    with pytest.raises(StoredError, match="No such file"):
        file_connections(tmp_path / "other.json")


@pytest.mark.parametrize("odd", [5, {"port": 1e999}, {"extra": "[" * 5000}, {"host": {}, "port": "x"}])
def test_an_odd_entry_of_a_file_leaves_the_others(tmp_path: Path, odd):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"odd": odd, "analytics": {"conn_type": "redshift"}}))
    odd, analytics = file_connections(path)
    assert odd.problem is not None
    assert analytics.conn_type == "redshift"
