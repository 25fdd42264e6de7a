"""Why no session came about, as a sentence that names host, port and what to do, whatever the driver raises."""

from __future__ import annotations

import socket
import ssl

import pytest

from redshift_secrets.lookup import connection_fields
from redshift_secrets.lookup.spec import build_spec
from redshift_secrets.model import Credential
from redshift_secrets.operations.login_errors import explain
from redshift_secrets.settings import Settings
from tests.support.fakes import cluster

CREDENTIAL = Credential("IAM:etl", "planted/password", 1.0, 3601.0, "arn:aws:iam::1:role/x")
HOST = "prod.abc.eu-west-1.redshift.amazonaws.com"


def explained(error, conn_id="analytics", **tags):
    own = {f"airflow:{name.replace('_', '-')}": value for name, value in tags.items()}
    spec = build_spec(cluster(tags={"airflow:conn-id": conn_id, "airflow:db-user": "etl", **own}), conn_id, Settings())
    fields = connection_fields.with_credential(spec, (HOST, 5439), CREDENTIAL)
    return explain(error, fields, spec)


def of_redshift_connector(message, code="28000"):
    import redshift_connector

    return redshift_connector.ProgrammingError(
        {"S": "FATAL", "C": code, "M": message, "F": "auth.c", "R": "auth_failed"}
    )


def of_psycopg(message):
    import psycopg

    return psycopg.OperationalError(
        f'connection failed: connection to server at "10.0.0.1", port 5439 failed: FATAL:  {message}'
    )


def of_libpq(message):
    import psycopg

    return psycopg.OperationalError(f"connection failed: {message}\n\tIs the server running?")


def of_the_driver(cause):
    import redshift_connector

    return redshift_connector.InterfaceError("communication error", cause)


def certificate_error(message, verify_message):
    error = ssl.SSLCertVerificationError(1, message)
    error.verify_message = verify_message
    return error


NO_USER = 'password authentication failed for user "IAM:etl"'


@pytest.mark.parametrize("raised", [of_redshift_connector(NO_USER), of_psycopg(NO_USER)])
def test_a_user_that_does_not_exist(raised):
    assert explained(raised) == (
        f'{HOST}:5439: {NO_USER}; the database user may not exist: CREATE USER "etl" PASSWORD DISABLE, or have AWS create it at'
        " login: tag auto-create = true (setting auto_create)"
    )
    assert "auto-create" not in explained(raised, auto_create="true")


@pytest.mark.parametrize(
    ("raised", "parts"),
    [
        (socket.gaierror(-2, "Name or service not known"), (HOST, "cannot be resolved", "DNS")),
        (TimeoutError("timed out"), (f"{HOST}:5439 does not answer", "security group", "port 5439", "route")),
        (ConnectionRefusedError(111, "Connection refused"), (f"{HOST}:5439 refuses connections", "Check the port")),
        (OSError(113, "No route to host"), (f"{HOST}:5439 cannot be reached: No route to host", "security group")),
        (ConnectionError(f"{HOST}:5439 does not offer TLS"), (f"{HOST}:5439 does not offer TLS",)),
        (certificate_error("x", "self-signed certificate"), (f"{HOST}:5439", "verify-full", "SSL_CERT_FILE")),
        (certificate_error("x", "Hostname mismatch, certificate is not valid for 'x'."), ("verify-ca", "setting hosts")),
        (of_redshift_connector('database "dwh" does not exist', "3D000"), (f"{HOST}:5439", "tag database")),
        (of_psycopg('permission denied for database "dwh"'), (f"{HOST}:5439", "GRANT")),
        (of_psycopg("sorry, too many clients already"), ("CONNECTION LIMIT",)),
        (of_psycopg("the database system is starting up"), ("wait until",)),
        (RuntimeError("connection timeout expired"), ("does not answer", "inbound rule for port 5439")),
        (of_the_driver(ConnectionRefusedError(111, "Connection refused")), (f"{HOST}:5439 refuses connections",)),
        (of_the_driver(socket.gaierror(-2, "Name or service not known")), (f"{HOST} cannot be resolved", "DNS")),
        (of_the_driver(TimeoutError("timed out")), (f"{HOST}:5439 does not answer", "security group")),
        (of_the_driver(certificate_error("x", "self-signed certificate")), ("sslmode = verify-full failed: self-signed",)),
        (of_libpq('connection to server at "10.0.0.1", port 5439 failed: Connection refused'), ("refuses connections",)),
        (of_libpq('could not translate host name "x" to address: Name or service not known'), ("cannot be resolved",)),
        (of_libpq("failed to resolve host 'x': [Errno -2] Name or service not known"), ("cannot be resolved",)),
        (of_libpq('connection to server at "x" (10.0.0.1), port 5439 failed: timeout expired'), ("does not answer",)),
        (of_psycopg('no pg_hba.conf entry for host "10.0.0.1", user "etl", database "dwh", SSL off'), ("sslmode = verify-full",)),
        (of_psycopg('no pg_hba.conf entry for host "10.0.0.1", user "etl", database "dwh", no encryption'), ("takes TLS alone",)),
        (RuntimeError("odd"), (f"{HOST}:5439: odd",)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)  # fmt: skip
def test_each_failure_names_host_port_and_what_to_do(raised, parts):
    sentence = explained(raised)
    assert all(part in sentence for part in parts), sentence
    assert "{" not in sentence
    assert "\n" not in sentence


def test_the_password_is_never_repeated():
    assert "planted" not in explained(RuntimeError("could not log in with planted/password"))
