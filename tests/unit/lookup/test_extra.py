"""docs/contract.md, "Tags" and "The Connection": `extra` of a connection, by tags and by settings."""

from __future__ import annotations

import inspect

import psycopg
import psycopg2
import pytest
import redshift_connector
from airflow.providers.postgres.hooks.postgres import PostgresHook
from psycopg import pq

from redshift_secrets.lookup import tags
from redshift_secrets.lookup.spec import build_spec
from redshift_secrets.model import ConnectionSpec
from redshift_secrets.settings import Settings, values
from tests.support.fakes import cluster

pytestmark = pytest.mark.attempt("loosen TLS or move a connection with a tag")

P = "airflow:"

REFUSED = {
    "redshift": """
        user database password port host source_address unix_sock ssl
        idp_host db_user app_id app_name preferred_role principal_arn access_key_id secret_access_key session_token profile
        credentials_provider region cluster_identifier iam client_id idp_tenant client_secret partner_sp_id
        idp_response_timeout idp_partition listen_port login_to_rp login_url auto_create db_groups force_lowercase
        allow_db_user_override ssl_insecure web_identity_token role_session_name role_arn auth_profile endpoint_url
        provider_name scope is_serverless serverless_acct_id serverless_work_group group_federation identity_namespace
        idc_client_display_name idc_region issuer_url token token_type
    """.split(),
    "postgres": """
        service servicefile user password passfile dbname host hostaddr port options fallback_application_name
        channel_binding require_auth requirepeer scram_client_key scram_server_key
        sslnegotiation sslcompression sslcert sslkey sslcertmode sslpassword sslrootcert sslcrl sslcrldir sslsni
        sslkeylogfile ssl_min_protocol_version ssl_max_protocol_version min_protocol_version max_protocol_version
        gssencmode krbsrvname gsslib gssdelegation replication target_session_attrs load_balance_hosts
        oauth_issuer oauth_client_id oauth_client_secret oauth_scope
        conninfo dsn autocommit prepare_threshold context row_factory cursor_factory connection_factory
        iam redshift redshift-serverless cluster-identifier workgroup-name aws_conn_id azure_conn_id
        sqlalchemy_scheme sqlalchemy_query
    """.split(),
}
"""What a tag must not set, of all that the drivers and hooks take. One that is neither here nor allowed is new: look it up."""


def libpq_keys() -> set[str]:
    """Return what PostgresHook takes in `extra`: for itself, for its two drivers, and for libpq below them."""
    drivers = {
        *inspect.signature(psycopg.Connection.connect).parameters,
        *inspect.signature(psycopg2.connect).parameters,
    } - {"kwargs"}
    libpq = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    return libpq | drivers | PostgresHook.ignored_extra_options | {"cursor"}


KEYS = {
    "redshift": {*inspect.signature(redshift_connector.connect).parameters},
    "postgres": libpq_keys(),
}


def build(settings: dict[str, object] | None = None, **tagged: str) -> ConnectionSpec:
    more = {P + "conn-id": "analytics", **{f"{P}{name}": value for name, value in tagged.items()}}
    return build_spec(cluster(tags=more), "analytics", Settings.from_kwargs(settings or {}))


def with_key(conn_type: str, key: str, value: str) -> ConnectionSpec:
    return build({"conn_type": conn_type}, **{f"extra.{key}": value})


@pytest.mark.parametrize("conn_type", KEYS)
def test_each_key_of_the_drivers_is_decided(conn_type: str) -> None:
    allowed = tags.EXTRA_KEYS[conn_type]
    assert not allowed & {*REFUSED[conn_type]}
    # A redshift connection is also read by libpq, in an engine of its hook and in a PostgresHook.
    known = KEYS[conn_type] if conn_type == "postgres" else KEYS["redshift"] | (allowed & KEYS["postgres"])
    assert allowed <= known
    assert KEYS[conn_type] - allowed <= {*REFUSED[conn_type]}, "a driver takes a new key"


@pytest.mark.parametrize(
    ("conn_type", "key"), [(conn_type, key) for conn_type, keys in REFUSED.items() for key in sorted(keys)]
)
def test_a_tag_cannot_change_where_as_whom_or_how_safely_a_driver_connects(conn_type: str, key: str) -> None:
    for value in ("true", "/tmp/x", "arn:aws:iam::1:role/x"):
        (error,) = with_key(conn_type, key, value).errors
        assert error.startswith(f"tag {P}extra.{key}")
        assert " must not " in error


@pytest.mark.parametrize(
    "key",
    ["ssl", "sslrootcert", "options", "unix_socket", "unix_sock", "role_arn", "driver_path", "login_url", "SSLMODE"],
)
@pytest.mark.parametrize("conn_type", ["redshift", "postgres"])
def test_a_key_that_no_driver_or_every_driver_knows_is_refused_with_the_reason(conn_type: str, key: str) -> None:
    (error,) = with_key(conn_type, key, "false").errors
    assert (
        "with any other key a driver might connect elsewhere, as somebody else or unprotected" in error
        or "would change where or as whom a driver connects" in error
        or "the settings sslmode and sslrootcert say how a driver checks whom it connects to" in error
    )


def test_an_unknown_key_is_reported_with_the_nearest_one() -> None:
    (error,) = with_key("postgres", "keepalive_idle", "30").errors
    assert "(did you mean 'keepalives_idle'?)" in error


def test_a_refused_key_fails_only_the_connection_that_it_is_for() -> None:
    warehouse = cluster(tags={P + "conn-id": "a b", P + "extra.options/a": "-c search_path=x"})
    assert len(build_spec(warehouse, "a", Settings()).errors) == 1
    assert build_spec(warehouse, "b", Settings()).errors == ()


@pytest.mark.parametrize("conn_type", ["redshift", "postgres"])
def test_harmless_keys_may_be_set(conn_type: str) -> None:
    for key in tags.EXTRA_KEYS[conn_type] - {"sslmode"}:
        spec = with_key(conn_type, key, "5")
        assert (spec.errors, spec.extra[key]) == ((), 5)


@pytest.mark.parametrize("setting", values.SSL_MODES)
@pytest.mark.parametrize("tagged", values.SSL_MODES)
def test_a_tag_only_tightens_sslmode(setting: str, tagged: str) -> None:
    settings = {"sslmode": setting, "conn_type": "postgres"}
    spec = build(settings, **{"extra.sslmode": tagged})
    if values.SSL_MODES.index(tagged) >= values.SSL_MODES.index(setting):
        assert (spec.errors, spec.extra["sslmode"]) == ((), tagged)
        assert spec.sources["extra.sslmode"] == f"tag {P}extra.sslmode"
    else:
        (error,) = spec.errors
        assert f"{P}extra.sslmode = {tagged} is weaker than the setting sslmode = {setting}" in error


@pytest.mark.parametrize("value", ["verify_full", "VERIFY-FULL", "false", "0", "", "full"])
def test_a_tag_with_another_word_for_sslmode_is_malformed(value: str) -> None:
    spec = build(**{"extra.sslmode": value})
    (error,) = spec.errors
    assert error.startswith(f"tag {P}extra.sslmode must be one of verify-full, verify-ca, ")
    assert spec.warnings == ()


def test_the_setting_says_what_every_connection_has() -> None:
    assert build({"sslmode": "verify-ca"}).extra == {"sslmode": "verify-ca"}
    assert build({"sslmode": "verify-ca"}).sources["extra.sslmode"] == "setting sslmode"


def test_only_connections_of_libpq_have_the_setting_sslrootcert() -> None:
    settings = {"sslrootcert": "/etc/ssl/corp.pem"}
    assert build(settings).extra == {"sslmode": "verify-full"}
    spec = build(settings, **{"conn-type": "postgres"})
    assert spec.extra == {"sslmode": "verify-full", "sslrootcert": "/etc/ssl/corp.pem"}
    assert spec.sources["extra.sslrootcert"] == "setting sslrootcert"


def test_a_mode_that_redshift_connector_does_not_take_is_reported() -> None:
    (warning,) = build({"sslmode": "require"}).warnings
    assert "RedshiftSQLHook cannot connect, its driver takes verify-full and verify-ca alone" in warning
    assert build({"sslmode": "require"}, **{"conn-type": "postgres"}).warnings == ()
    assert build({"sslmode": "require"}, **{"extra.sslmode": "verify-ca"}).warnings == ()
