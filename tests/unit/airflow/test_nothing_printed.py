"""No secret is printed, whatever is given to a structured log, a repr or a format: settings, credentials, specs, requests, and
the Connection that a task gets."""

from __future__ import annotations

import contextlib
import importlib
import logging
import pickle
import pkgutil
from types import SimpleNamespace

import msgspec
import pytest
from msgspec import msgpack
from rich.pretty import pretty_repr

import redshift_secrets
from redshift_secrets.airflow import masking
from redshift_secrets.airflow.stored import Place, StoredConnection
from redshift_secrets.aws.stored import StoredText
from redshift_secrets.lookup import caller, connection_fields
from redshift_secrets.lookup.catalog import listing_from_rows, listing_to_rows
from redshift_secrets.lookup.listing import build_listing
from redshift_secrets.lookup.spec import build_spec
from redshift_secrets.model import Credential, HiddenMapping, HiddenText, MintRequest, Private, reveal
from redshift_secrets.operations.environment import ClientEnvironment
from redshift_secrets.operations.migrate.reading import Source
from redshift_secrets.settings import Settings
from tests.support.airflow_parts import from_airflow_3_2
from tests.support.helpers import cluster

pytestmark = pytest.mark.attempt("read a secret in a structured log event or a repr")

ROLE = "arn:aws:iam::123456789012:role/reader"
OTHER_ROLE = "arn:aws:iam::210987654321:role/reader"
KEY = "planted" + 35 * "n" + "A="
SETTINGS = Settings.from_kwargs(
    {
        "regions": ["eu-west-1"],
        "role_arn": ROLE,
        "external_id": "planted-external-id",
        "accounts": [{"role_arn": OTHER_ROLE, "external_id": "planted-external-id-2"}],
        "config": {"proxies": {"https": "http://me:planted-proxy@proxy:3128"}},
        "extra": {"sslpassword": "planted-extra"},
        "cache": {"key": KEY, "redis_url": "rediss://me:planted%2Fredis@cache:6380/0?ssl_password=planted-tls"},
        "fallback": [
            {
                "backend": "airflow.providers.hashicorp.secrets.vault.VaultBackend",
                "backend_kwargs": {
                    "url": "https://me:planted-url@vault:8200",
                    "token": "planted-token",
                    "nested": [{"secret_id": "planted-nested"}],
                    "connection_string": "planted-dsn",
                    "authorization": "planted-authorization",
                    "mount_point": "a harmless mount point",
                },
            }
        ],
    }
)
SPEC = build_spec(cluster(tags={"airflow:conn-id": "analytics"}), "analytics", SETTINGS)
CREDENTIAL = Credential("IAM:etl", "planted/pass+word=", 1.0, 3601.0, "arn:aws:sts::123456789012:assumed-role/a/b")
FIELDS = connection_fields.with_credential(SPEC, ("prod", 5439), CREDENTIAL)
RECORDS = [
    SETTINGS,
    *SETTINGS.accounts,
    SETTINGS.cache,
    SETTINGS.cache.redis_url,
    *SETTINGS.fallback,
    SPEC,
    SPEC.warehouse,
]
RECORDS += [
    MintRequest.of(SPEC),
    CREDENTIAL,
    FIELDS,
    ClientEnvironment({"PGPASSWORD": "planted/pass+word="}, ("PGOPTIONS",), "a harmless sentence"),
    StoredConnection(
        "analytics", Place("database"), extra={"password": "planted-extra"}, password="planted/pass+word="
    ),
    StoredText("airflow/connections/analytics", "analytics", "redshift://etl:planted@prod"),
    Source("secrets-manager", "airflow/connections", {"aws_secret_access_key": "planted-key"}),
]

records = pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)


def logged(**event: object) -> str:
    """Return what Airflow writes into the log of a task for a structured event."""
    from airflow.sdk._shared.logging.structlog import structlog_processors

    processors, _, render = structlog_processors(json_output=True)
    event = {"event": "something happened", "level": "info", "timestamp": "now", **event}
    for processor in processors:
        if getattr(processor, "__name__", "") not in ("respect_stdlib_disable",):
            event = processor(SimpleNamespace(name="x"), "info", event)
    return str(render(None, "info", event))


def logged_classically(value: object) -> str:
    """Return what Python's own logging writes."""
    return logging.LogRecord("x", logging.INFO, "x", 1, "%s %r", (value, value), None).getMessage()


@from_airflow_3_2
@records
def test_a_structured_log_event_encodes_no_secret(record):
    line = logged(given=record, listed=[record], named={"record": record})
    assert "something happened" in line
    assert "planted" not in line


@pytest.mark.parametrize("hook", [str, repr, format])
@records
def test_no_encoder_of_msgspec_writes_a_secret_by_itself(record, hook):
    for encode in (msgspec.json.encode, msgpack.encode):
        assert b"planted" not in encode(record, enc_hook=hook)
    assert "planted" not in str(msgspec.to_builtins(record, enc_hook=hook))


@records
def test_no_format_shows_a_secret(record):
    for text in (repr(record), str(record), f"{record}", f"{record!r:>5}", logged_classically(record)):
        assert "planted" not in text


def test_a_field_that_is_taken_out_of_a_record_is_not_shown_either():
    for text in (
        f"{CREDENTIAL.password} {FIELDS.extra}",
        logged_classically(CREDENTIAL.password),
        repr([CREDENTIAL.password, SETTINGS.config]),
    ):
        assert "planted" not in text


@records
def test_what_prints_the_variables_of_a_traceback_shows_no_secret(record):
    """rich cuts long texts, and Sentry (https://docs.sentry.io/platforms/python/) writes mappings item by item."""
    assert "planted" not in pretty_repr({"a": [record]}, max_string=80)
    for long in (HiddenText(100 * "planted"), HiddenMapping({"a": 100 * "planted"})):
        assert "planted" not in pretty_repr([long], max_string=80)
    assert type(SETTINGS.extra).__sentry_repr__(SETTINGS.extra) == "***"


def test_every_record_that_hides_a_field_is_tested_here():
    for module in pkgutil.walk_packages(redshift_secrets.__path__, "redshift_secrets."):
        if not module.name.startswith("redshift_secrets.local"):  # needs packages of its own
            with contextlib.suppress(ModuleNotFoundError):  # the page is for Airflow 3.1 and newer
                importlib.import_module(module.name)

    def hiding(kind):
        yield from ([kind] if kind.hidden else [])
        for each in kind.__subclasses__():
            yield from hiding(each)

    assert set(hiding(Private)) == {type(each) for each in RECORDS if isinstance(each, Private)}


def test_what_is_hidden_is_still_the_same_text_and_mapping():
    assert CREDENTIAL.password == "planted/pass+word="
    assert type(reveal(CREDENTIAL.password)) is str
    assert FIELDS.extra == {"sslpassword": "planted-extra", "sslmode": "verify-full"}
    assert reveal(FIELDS.extra) == {"sslpassword": "planted-extra", "sslmode": "verify-full"}
    assert pickle.loads(pickle.dumps(CREDENTIAL)) == CREDENTIAL
    with pytest.raises(TypeError, match="a int is not hidden"):
        reveal(1)


def test_what_a_store_seals_is_read_again_with_its_secrets_hidden():
    (found,) = listing_from_rows(listing_to_rows(build_listing([SPEC.warehouse], SETTINGS))).specs["analytics"]
    assert found == SPEC
    assert type(found.extra) is HiddenMapping
    read = msgpack.decode(msgpack.encode(CREDENTIAL, enc_hook=reveal), type=Credential)
    assert read == CREDENTIAL
    assert type(read.password) is HiddenText


def test_secrets_in_settings_make_a_difference_to_what_is_shared():
    def digest(**changes):
        return caller.settings_fingerprint(Settings.from_kwargs({"role_arn": ROLE, **changes}))

    assert digest(external_id="one") != digest(external_id="two")
    assert digest(extra={"a": 1}) != digest(extra={"a": 2})


def test_the_secrets_in_settings_are_found():
    assert masking.secrets_in(SETTINGS) == {
        KEY,
        "planted-proxy",
        "planted-extra",
        "planted%2Fredis",
        "planted/redis",
        "planted-tls",
        "planted-url",
        "planted-token",
        "planted-nested",
        "planted-dsn",
        "planted-authorization",
    }
    assert masking.secrets_in(Settings()) == set()


def test_the_passwords_of_sentinels_are_found():
    url = "redis+sentinel://:one-secret@h:1/service?sentinel_password=another-one&password=a-third"
    settings = Settings.from_kwargs({"cache": {"redis_url": url, "key": KEY}})
    assert masking.secrets_in(settings) >= {"one-secret", "another-one"}
