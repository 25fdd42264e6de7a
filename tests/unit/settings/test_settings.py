"""Section 7: every setting as a value and as a text, and one message with everything that is wrong."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable

import pytest
from msgspec.structs import fields
from rich.pretty import pretty_repr

from redshift_secrets.errors import SettingsError
from redshift_secrets.settings.settings import Account, Cache, Fallback, Settings

ROLE = "arn:aws:iam::123456789012:role/airflow"
OTHER_ROLE = "arn:aws:iam::210987654321:role/airflow"

KEY = base64.urlsafe_b64encode(b"k" * 32).decode()

DEFAULTS = {
    "tag_prefix": "airflow:",
    "regions": (),
    "accounts": (),
    "profile_name": None,
    "region_name": None,
    "role_arn": None,
    "external_id": None,
    "endpoint_url": None,
    "config": None,
    "connections_lookup_pattern": None,
    "required_tags": {},
    "allowed_accounts": (),
    "on_conflict": "refuse",
    "auth": "auto",
    "db_user": None,
    "database": None,
    "db_groups": (),
    "auto_create": False,
    "duration_seconds": 3600,
    "conn_type": "redshift",
    "extra": {},
    "allow_admin_secret": False,
    "min_validity_seconds": 300,
    "catalog_ttl_seconds": 300,
    "catalog_max_stale_seconds": 86400,
    "aws_timeout_seconds": 10,
    "cache": Cache(),
    "fallback": (),
}
"""The list of section 7, with the defaults of sections 3 to 6."""

READ = {
    "tag_prefix": ("dwh/", "dwh/"),
    "regions": (["eu-west-1", "us-east-1"], ("eu-west-1", "us-east-1")),
    "accounts": (
        [{"role_arn": ROLE}, {"role_arn": OTHER_ROLE, "external_id": "x1", "regions": ["us-east-1"]}],
        (Account(ROLE), Account(OTHER_ROLE, "x1", ("us-east-1",))),
    ),
    "profile_name": ("prod", "prod"),
    "region_name": ("eu-west-1", "eu-west-1"),
    "role_arn": (ROLE, ROLE),
    "external_id": ("x1", "x1"),
    "endpoint_url": ("http://127.0.0.1:4566", "http://127.0.0.1:4566"),
    "config": ({"max_pool_connections": 20}, {"max_pool_connections": 20}),
    "connections_lookup_pattern": ("^redshift_", re.compile("^redshift_", re.IGNORECASE)),
    "required_tags": ({"env": "prod"}, {"env": "prod"}),
    "allowed_accounts": (["012345678901"], ("012345678901",)),
    "on_conflict": ("oldest", "oldest"),
    "auth": ("iam", "iam"),
    "db_user": ("airflow_etl", "airflow_etl"),
    "database": ("sales", "sales"),
    "db_groups": (["loaders", "readers"], ("loaders", "readers")),
    "auto_create": (True, True),
    "duration_seconds": (900, 900),
    "conn_type": ("postgres", "postgres"),
    "extra": ({"sslmode": "verify-full", "timeout": 5}, {"sslmode": "verify-full", "timeout": 5}),
    "allow_admin_secret": (True, True),
    "min_validity_seconds": (60, 60),
    "catalog_ttl_seconds": (60, 60),
    "catalog_max_stale_seconds": (600, 600),
    "aws_timeout_seconds": (5, 5),
    "cache": (
        {"host": "false", "path": "/run/airflow", "redis_url": "rediss://cache:6379/0", "key": f"{KEY},{KEY}"},
        Cache(host=False, path="/run/airflow", redis_url="rediss://cache:6379/0", key=(KEY, KEY)),
    ),
    "fallback": ("site.Backend", (Fallback("site.Backend"),)),
}
"""For every setting a value as JSON gives it, and what it is read as."""

NEEDS = {"external_id": {"role_arn": ROLE}}

IMPOSSIBLE = [
    ("fallback", 7, "class"),
    ("tag_prefix", "aws:redshift:", "not begin with aws:, not 'aws:redshift:'"),
    ("tag_prefix", "airflow#", "not 'airflow#'"),
    ("tag_prefix", "x" * 65, "must be 1 to 64 of the characters AWS allows"),
    ("regions", ["europe"], "must be an AWS region such as eu-west-1, not 'europe'"),
    ("regions", 7, "must be a list, not 7"),
    ("accounts", {"role_arn": ROLE}, "must be a JSON list of objects, each with a role_arn"),
    ("accounts", [ROLE], "entry 1 is not one"),
    ("accounts", [{"role_arn": ROLE}, {"regions": ["eu-west-1"]}], "has no role_arn in entry 2"),
    ("accounts", [{"role_arn": ROLE}, {"role_arn": ROLE}], f"names the role {ROLE} twice"),
    ("accounts", [{"role_arn": "airflow"}], "has in entry 1 a role_arn that must be the ARN of an IAM role"),
    ("accounts", [{"role_arn": ROLE, "regions": ["x"]}], "has in entry 1 a regions that must be an AWS region"),
    ("accounts", [{"rolearn": ROLE}], "has in entry 1 the unknown name 'rolearn' (did you mean 'role_arn'?)"),
    ("profile_name", "", "must be a text that is not empty, not ''"),
    ("region_name", "eu", "must be an AWS region such as eu-west-1, not 'eu'"),
    ("role_arn", "airflow", "must be the ARN of an IAM role such as"),
    ("external_id", 7, "must be a text that is not empty"),
    ("endpoint_url", "127.0.0.1:4566", "must be a URL that begins with http:// or https://"),
    ("config", ["retries"], "must be a JSON object, not a list"),
    ("connections_lookup_pattern", "red(", "must be a regular expression; 'red(' is not one"),
    ("required_tags", {"env": 1}, "must give each tag key one text as its value; 'env' has a int"),
    ("required_tags", "env", "must be JSON, which it is not"),
    ("allowed_accounts", [12345678901], "must be an AWS account of 12 digits, in quotes"),
    ("on_conflict", "newest", "must be one of refuse, oldest, not 'newest'"),
    ("auth", "dbuser", "not 'dbuser' (did you mean 'db-user'?)"),
    ("db_user", "IAM:etl", "AWS adds the prefix: write 'etl'"),
    ("db_user", "a/b", "must be a database user as AWS accepts it"),
    ("db_user", "Select", "must not be SELECT, which AWS reserves"),
    ("db_user", "etl_{dag}", "may only contain {dag_id} and {team}"),
    ("database", "1st", "must be a database name as AWS accepts it"),
    ("db_groups", ["Loaders"], "must be a database group as AWS accepts it"),
    ("auto_create", "yes", "must be true or false, not 'yes'"),
    ("auto_create", 1, "must be true or false, not 1"),
    ("duration_seconds", 899, "must be between 900 and 3600 seconds, not 899"),
    ("duration_seconds", "3601", "must be between 900 and 3600 seconds, not 3601"),
    ("duration_seconds", "1h", "must be a whole number of seconds, not '1h'"),
    ("duration_seconds", True, "must be a whole number of seconds, not True"),
    ("conn_type", "Red Shift", "must be an Airflow connection type"),
    ("extra", {"host": "x"}, "must not contain 'host'"),
    ("extra", "[]", "must be a JSON object, not a list"),
    ("allow_admin_secret", "on", "must be true or false, not 'on'"),
    ("min_validity_seconds", -1, "not -1"),
    ("catalog_ttl_seconds", 0, "not 0"),
    ("catalog_max_stale_seconds", "forever", "must be a whole number of seconds, not 'forever'"),
    ("aws_timeout_seconds", 0, "not 0"),
    ("cache", {"hosts": True}, "has the unknown name 'hosts' (did you mean 'host'?)"),
    ("cache", {"path": "here"}, "has a path that must be absolute, not 'here'"),
    ("cache", {"redis_url": "http://cache"}, "has a redis_url that must be a URL that begins with one of redis"),
    ("cache", {"key": "short"}, "has a key that must be one or more Fernet keys"),
    ("cache", {"host": "no", "key": 1}, "has a host that must be true or false, not 'no'; it has a key that must be"),
]

TOGETHER = [
    ({"external_id": "x1"}, "external_id needs a role_arn"),
    ({"external_id": "x1", "role_arn": None}, "external_id needs a role_arn"),
    (
        {"min_validity_seconds": 900, "duration_seconds": 900},
        "min_validity_seconds (900) must be less than duration_seconds (900)",
    ),
    (
        {"catalog_ttl_seconds": 600, "catalog_max_stale_seconds": 599},
        "catalog_max_stale_seconds (599) must not be less than catalog_ttl_seconds (600)",
    ),
    ({"auth": "secret"}, "set allow_admin_secret = true"),
    ({"auth": "secret", "allow_admin_secret": False}, "set allow_admin_secret = true"),
    ({"auth": "secret", "allow_admin_secret": None}, "set allow_admin_secret = true"),
]


def refused(**kwargs: object) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as error:
        Settings.from_kwargs(kwargs)
    return error.value.problems


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
    assert (read, type(read)) == (expected, type(expected))


@pytest.mark.parametrize("name", DEFAULTS)
def test_none_means_not_set_as_in_the_amazon_provider(name: str):
    assert getattr(Settings.from_kwargs({name: None}), name) == DEFAULTS[name]


@pytest.mark.parametrize("raw", ["eu-west-1 us-east-1", "eu-west-1,us-east-1"])
def test_a_list_may_be_written_without_json(raw: str):
    assert Settings.from_kwargs({"regions": raw}).regions == ("eu-west-1", "us-east-1")


@pytest.mark.parametrize(("name", "raw", "said"), IMPOSSIBLE)
def test_an_impossible_value_stops_with_the_name_and_what_it_must_be(name: str, raw: object, said: str):
    (problem,) = refused(**{**NEEDS.get(name, {}), name: raw})
    assert problem.startswith(f"{name} ")
    assert said in problem


def test_every_setting_has_an_impossible_value_among_the_examples():
    assert {name for name, *_ in IMPOSSIBLE} == set(DEFAULTS)


@pytest.mark.parametrize("known", DEFAULTS)
def test_an_unknown_name_stops_with_the_nearest_known_one(known: str):
    for unknown in (known + "s", known[:-1], known.replace("_", "")):
        if unknown not in DEFAULTS:
            assert refused(**{unknown: "x"}) == (f"{unknown}: unknown setting (did you mean {known!r}?)",)


def test_a_name_that_is_like_no_other_stops_too():
    assert refused(qqq=1) == ("qqq: unknown setting",)


def test_all_mistakes_are_listed_at_once_in_one_readable_message():
    with pytest.raises(SettingsError) as error:
        Settings.from_kwargs(
            {
                "duration_seconds": 899,
                "db_usr": "etl",
                "connections_lookup_pattern": "red(",
                "accounts": [{}],
                "external_id": "x1",
                "regions": ["eu-west-1"],
            }
        )
    heading, *lines = str(error.value).splitlines()
    assert "backend_kwargs" in heading
    assert [line.split()[1].rstrip(":") for line in lines] == [
        "duration_seconds",
        "db_usr",
        "connections_lookup_pattern",
        "accounts",
        "external_id",
    ]
    assert "regions" not in str(error.value)


@pytest.mark.parametrize(("kwargs", "said"), TOGETHER)
def test_settings_that_cannot_work_together_are_refused_with_both_names(kwargs: dict[str, object], said: str):
    (problem,) = refused(**kwargs)
    assert said in problem


@pytest.mark.parametrize(
    "kwargs",
    [
        {"external_id": "x1", "role_arn": "airflow"},
        {"min_validity_seconds": 3000, "duration_seconds": 899},
        {"min_validity_seconds": "much", "duration_seconds": 900},
        {"catalog_ttl_seconds": "often", "catalog_max_stale_seconds": 1},
        {"auth": "secret", "allow_admin_secret": "yes"},
    ],
)
def test_nothing_is_guessed_of_a_value_that_cannot_be_read(kwargs: dict[str, object]):
    assert len(refused(**kwargs)) == 1


@pytest.mark.parametrize(
    "kwargs",
    [
        {"external_id": "x1", "role_arn": ROLE},
        {"min_validity_seconds": 899, "duration_seconds": 900},
        {"catalog_ttl_seconds": 600, "catalog_max_stale_seconds": 600},
        {"auth": "secret", "allow_admin_secret": True},
    ],
)
def test_settings_that_just_work_together_are_accepted(kwargs: dict[str, object]):
    settings = Settings.from_kwargs(kwargs)
    assert {name: getattr(settings, name) for name in kwargs} == kwargs


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
        {"fallback": [{"class": "a.Backend", "kwargs": {"token": "hunter2"}}]},
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
def test_the_pattern_matches_as_in_the_amazon_providers_backends(pattern: str | None, conn_id: str, expected: bool):
    assert Settings.from_kwargs({"connections_lookup_pattern": pattern}).matches(conn_id) is expected


def test_settings_cannot_be_changed_afterwards():
    settings = Settings.from_kwargs({})
    with pytest.raises(AttributeError):
        settings.auth = "iam"  # type: ignore[misc]
