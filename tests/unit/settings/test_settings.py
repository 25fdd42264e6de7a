"""Every setting as a value and as a text, and one message with everything that is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from msgspec.structs import fields
from rich.pretty import pretty_repr

from redshift_secrets.errors import SettingsError
from redshift_secrets.model import HiddenMapping, HiddenText, reveal
from redshift_secrets.settings import Account, Cache, Fallback, Settings, redis_url
from redshift_secrets.settings.records import Host
from tests.unit.settings.defaults import DEFAULTS, KEY, NEEDS, ROLE

OTHER_ROLE = "arn:aws:iam::210987654321:role/airflow"
READ = {
    "tag_prefix": ("dwh/", "dwh/"),
    "regions": (["eu-west-1", "us-east-1"], ("eu-west-1", "us-east-1")),
    "accounts": (
        [{"role_arn": ROLE}, {"role_arn": OTHER_ROLE, "external_id": "x1", "regions": ["us-east-1"]}],
        (Account(ROLE), Account(OTHER_ROLE, "x1", ("us-east-1",))),
    ),
    "warehouses": (["workgroups"], ("workgroups",)),
    "profile_name": ("prod", "prod"),
    "region_name": ("eu-west-1", "eu-west-1"),
    "role_arn": (ROLE, ROLE),
    "external_id": ("x1", "x1"),
    "assume_role_kwargs": ({"DurationSeconds": "1800", "ExternalId": None}, {"DurationSeconds": 1800}),
    "verify": ("/etc/ssl/corporate.pem", "/etc/ssl/corporate.pem"),
    "endpoint_url": ("http://127.0.0.1:4566", "http://127.0.0.1:4566"),
    "config": ({"max_pool_connections": 20}, {"max_pool_connections": 20}),
    "connections_lookup_pattern": ("^redshift_", re.compile("^redshift_", re.IGNORECASE)),
    "managed_conn_ids": ("^(analytics|dw_)", re.compile("^(analytics|dw_)", re.IGNORECASE)),
    "required_tags": ({"env": "prod"}, {"env": "prod"}),
    "allowed_accounts": (["012345678901"], ("012345678901",)),
    "on_conflict": ("oldest", "oldest"),
    "auth": ("iam", "iam"),
    "db_user": ("airflow_etl", "airflow_etl"),
    "database": ("sales", "sales"),
    "db_groups": (["loaders", "readers"], ("loaders", "readers")),
    "db_roles": ("Loaders, readers", ("Loaders", "readers")),
    "auto_create": (True, True),
    "duration_seconds": (900, 900),
    "conn_type": ("postgres", "postgres"),
    "extra": ({"keepalives_idle": 30, "timeout": 5}, {"keepalives_idle": 30, "timeout": 5}),
    "sslmode": ("verify-ca", "verify-ca"),
    "sslrootcert": ("/etc/ssl/corp.pem", "/etc/ssl/corp.pem"),
    "hosts": ({"prod": "nlb.corp:5440"}, {"prod": Host("nlb.corp", 5440)}),
    "allow_admin_secret": (True, True),
    "min_validity_seconds": (60, 60),
    "catalog_ttl_seconds": (60, 60),
    "catalog_max_stale_seconds": (600, 600),
    "aws_timeout_seconds": (5, 5),
    "cache": (
        {"host": "false", "path": "/run/airflow", "redis_url": "rediss://cache:6379/0", "key": f"{KEY},{KEY}"},
        Cache(host=False, path="/run/airflow", redis_url=redis_url.parse("rediss://cache:6379/0"), key=(KEY, KEY)),
    ),
    "audit": ("/var/log/airflow/audit.jsonl", "/var/log/airflow/audit.jsonl"),
    "fallback": ("site.Backend", (Fallback("site.Backend"),)),
}
"""For every setting a value as JSON gives it, and what it is read as."""


POSSIBLE = [
    ("role_arn", "arn:aws:iam::123456789012:role/service-role/a+b=c,d.e@f_g-h"),
    ("role_arn", "arn:aws-us-gov:iam::123456789012:role/" + "x" * 64),
    ("external_id", "a-b_c=d,e.f@g:h/i+j"),
    ("endpoint_url", "https://[::1]:4566/prefix"),
    ("endpoint_url", "http://host_1.internal."),
    ("endpoint_url", "https://vpce-1.redshift.eu-west-1.vpce.amazonaws.com"),
    ("required_tags", {"aws:cloudformation:stack-name": "dwh", "Kosten stelle": "", "größe": "a b+c=d.e_f:g/h@i-j"}),
    ("extra", {"nested": {"a": [1, 2.5, None, True, "x"]}}),
]
"""Unusual values that must be accepted as they are."""


def as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def test_the_settings_are_those_of_the_contract_with_its_defaults():
    settings = Settings.from_kwargs({})
    assert {f.name: getattr(settings, f.name) for f in fields(settings)} == DEFAULTS
    assert set(READ) == set(DEFAULTS)


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("write", [lambda raw: raw, as_text], ids=["value", "text"])
def test_a_setting_is_read_as_a_value_and_as_the_text_of_an_environment_variable(name: str, write):
    raw, expected = READ[name]
    settings = Settings.from_kwargs({**NEEDS.get(name, {}), name: write(raw)})
    read = getattr(settings, name)
    if isinstance(read, (HiddenMapping, HiddenText)):
        read = reveal(read)
    assert (read, type(read)) == (expected, type(expected))


@pytest.mark.parametrize("name", DEFAULTS)
def test_none_means_not_set_as_in_the_amazon_provider(name: str):
    assert getattr(Settings.from_kwargs({name: None}), name) == DEFAULTS[name]


@pytest.mark.parametrize("raw", ["eu-west-1 us-east-1", "eu-west-1,us-east-1"])
def test_a_list_may_be_written_without_json(raw: str):
    assert Settings.from_kwargs({"regions": raw}).regions == ("eu-west-1", "us-east-1")


@pytest.mark.parametrize(
    "raw", ["clusters, workgroups", ["clusters", "workgroups"], ["clusters", "workgroups", "clusters"]]
)
def test_both_kinds_of_warehouses_may_be_named(raw: object):
    assert Settings.from_kwargs({"warehouses": raw}).warehouses == DEFAULTS["warehouses"]


@pytest.mark.parametrize(("name", "value"), POSSIBLE)
def test_an_unusual_value_is_accepted_as_it_is(name: str, value: object):
    settings = Settings.from_kwargs({**NEEDS.get(name, {}), name: value})
    assert getattr(settings, name) == value


@pytest.mark.parametrize(
    "raw",
    [
        {"backend": "site.Backend", "backend_kwargs": {"a": 1}},
        [{"backend": "site.Backend", "backend_kwargs": '{"a": 1}'}],
        '[{"backend": "site.Backend", "backend_kwargs": {"a": 1}}]',
    ],
)
def test_a_fallback_is_named_in_the_words_of_the_secrets_section(raw: object):
    assert Settings.from_kwargs({"fallback": raw}).fallback == (Fallback("site.Backend", {"a": 1}),)


def test_fallbacks_keep_their_order():
    raw = ["site.A", {"backend": " site.B ", "backend_kwargs": None}]
    assert Settings.from_kwargs({"fallback": raw}).fallback == (Fallback("site.A"), Fallback("site.B"))


@pytest.mark.parametrize(
    "kwargs",
    [
        {"external_id": ["hunter2"]},
        {"external_id": {"id": "hunter2"}, "role_arn": ROLE},
        {"accounts": [{"role_arn": ROLE, "external_id": ["hunter2"]}]},
        {"accounts": [{"role_arn": ROLE, "external_ids": "hunter2"}]},
        {"accounts": '[{"external_id": "hunter2"'},
        {"endpoint_url": "https://me:hunter2@example.com"},
        {"endpoint_url": ["https://me:hunter2@example.com"]},
        {"extra": {"password": "hunter2"}},
        {"extra": '{"sslpassword": "hunter2"'},
        {"extra": ["hunter2"]},
        {"config": '{"proxies": {"https": "http://me:hunter2@proxy"}'},
        {"config": ["hunter2"]},
        {"cache": {"redis_url": "redis://:hunter2@fleet:port"}},
        {"cache": {"redis_url": ["redis://:hunter2@fleet"]}},
        {"cache": {"key": "hunter2"}},
        {"config": {"proxies": {"https": "http://me:hunter2@proxy:port"}}},
        {"fallback": [{"backend": "a.Backend", "backend_kwargs": "hunter2"}]},
        {"fallback": [{"class": "a.Backend", "kwargs": {"token": "hunter2"}}]},
        {"password": "hunter2"},
    ],
)
def test_nothing_secret_is_in_the_message(kwargs: dict[str, object]):
    with pytest.raises(SettingsError) as error:
        Settings.from_kwargs(kwargs)
    assert "hunter2" not in str(error.value)
    assert "hunter2" not in repr(error.value)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"external_id": "hunter2", "role_arn": ROLE},
        {"accounts": [{"role_arn": ROLE, "external_id": "hunter2"}]},
        {"extra": {"sslpassword": "hunter2"}},
        {"config": {"proxies": {"https": "http://me:hunter2@proxy"}}},
        {"cache": {"redis_url": "redis://:hunter2@fleet"}},
        {"fallback": [{"backend": "a.Backend", "backend_kwargs": {"token": "hunter2"}}]},
    ],
)
@pytest.mark.parametrize("show", [repr, pretty_repr], ids=["repr", "rich"])
def test_nothing_secret_is_in_the_repr(kwargs: dict[str, object], show: Callable[[object], str]):
    text = show(Settings.from_kwargs(kwargs))
    assert "hunter2" not in text
    assert "tag_prefix='airflow:'" in text


@pytest.mark.parametrize(
    ("pattern", "conn_id", "expected"),
    [
        (None, "anything", True),
        ("^redshift_", "redshift_sales", True),
        ("redshift_", "REDSHIFT_sales", True),
        ("redshift_", "my_redshift_sales", False),
        (".*_dwh$", "sales_dwh", True),
        (".*_dwh$", "sales_dwh_2", False),
    ],
)
@pytest.mark.parametrize("setting", ["connections_lookup_pattern", "managed_conn_ids"])
def test_both_patterns_match_as_in_the_amazon_providers_backends(
    setting: str, pattern: str | None, conn_id: str, expected: bool
):
    settings = Settings.from_kwargs({setting: pattern})
    assert settings.looks_up(conn_id) is expected
    assert settings.manages(conn_id) is (setting == "managed_conn_ids" and expected and pattern is not None)


@pytest.mark.parametrize(
    ("conn_id", "looked_up", "managed"),
    [
        ("dw_sales", True, True),
        ("analytics", False, False),
        ("dw_old", False, False),
        ("dw_" + "x" * 247, True, True),
        ("dw_" + "x" * 248, False, False),
    ],
)
def test_an_id_must_match_both_patterns_and_be_one_that_airflow_can_store(conn_id: str, looked_up: bool, managed: bool):
    both = {"connections_lookup_pattern": "^(?!dw_old$).*$", "managed_conn_ids": "^dw_"}
    settings = Settings.from_kwargs(both)
    assert (settings.looks_up(conn_id), settings.manages(conn_id)) == (looked_up, managed)


def test_settings_cannot_be_changed_afterwards():
    settings = Settings.from_kwargs({})
    with pytest.raises(AttributeError):
        settings.auth = "iam"  # type: ignore[misc]
