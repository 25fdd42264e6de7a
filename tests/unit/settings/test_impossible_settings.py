"""What cannot be set is refused at once, with the name, what it must be, and all mistakes together."""

from __future__ import annotations

import re

import pytest

from redshift_secrets.errors import SettingsError
from redshift_secrets.settings import BACKEND_CLASS_PATHS, Settings
from tests.unit.settings.defaults import DEFAULTS, KEY, NEEDS, ROLE

IMPOSSIBLE = [
    ("tag_prefix", "aws:redshift:", "not begin with aws:, not 'aws:redshift:'"),
    ("tag_prefix", "airflow#", "not 'airflow#'"),
    ("tag_prefix", "air\nflow", "must be one line of text that is not empty, not 'air\\nflow'"),
    ("tag_prefix", "x" * 65, "must be 1 to 64 of the characters AWS allows"),
    ("regions", ["europe"], "must be an AWS region such as eu-west-1, not 'europe'"),
    ("regions", ["eu-west-1", 7], "must be an AWS region such as eu-west-1, not 7"),
    ("regions", ["eu-west-1", ["us-east-1"]], "must be an AWS region such as eu-west-1, not ['us-east-1']"),
    ("regions", "eu-west-\u0661", "must be an AWS region such as eu-west-1"),
    ("regions", 7, "must be a list, not 7"),
    ("warehouses", ["cluster"], "must be one of clusters, workgroups, not 'cluster' (did you mean 'clusters'?)"),
    ("warehouses", "clusters serverless", "must be one of clusters, workgroups, not 'serverless'"),
    ("warehouses", [], "must name clusters, workgroups or both"),
    ("warehouses", True, "must be a list, not True"),
    ("profile_name", "", "must be one line of text that is not empty, not ''"),
    ("profile_name", "prod\ntest", "must be one line of text that is not empty, not 'prod\\ntest'"),
    ("profile_name", "prod\0", "must be one line of text that is not empty"),
    ("profile_name", "\ud800", "must be one line of text that is not empty"),
    ("audit", "audit.jsonl", "must be the absolute path of a file, stdout or log, not 'audit.jsonl'"),
    ("audit", "~/audit.jsonl", "must be the absolute path of a file, stdout or log, not '~/audit.jsonl'"),
    ("audit", "Stdout", "must be the absolute path of a file, stdout or log, not 'Stdout' (did you mean 'stdout'?)"),
    ("audit", "/var/log/", "must be the absolute path of a file, stdout or log, not '/var/log/'"),
    ("audit", "/var/log/..", "must be the absolute path of a file, stdout or log, not '/var/log/..'"),
    ("audit", "/var/log/\0", "must be one line of text that is not empty"),
    ("audit", True, "must be one line of text that is not empty, not True"),
    ("region_name", "eu", "must be an AWS region such as eu-west-1, not 'eu'"),
    ("role_arn", "airflow", "must be the ARN of an IAM role such as"),
    ("role_arn", "arn:aws:iam::123456789012:role/air flow", "must be the ARN of an IAM role such as"),
    ("role_arn", "arn:aws:iam::123456789012:role/team/", "must be the ARN of an IAM role such as"),
    ("role_arn", "arn:aws:iam::123456789012:role/" + "x" * 65, "must be the ARN of an IAM role such as"),
    ("role_arn", "arn:aws:iam::12345678901\u0662:role/x", "must be the ARN of an IAM role such as"),
    ("external_id", 7, "must be a text of 2 to 1224 letters, digits or any of"),
    ("assume_role_kwargs", 7, "must be a JSON object, not a int"),
    ("verify", "corporate.pem", "must be true, false or the absolute path of a file of certificates"),
    ("verify", 1, "must be true, false or the absolute path of a file of certificates"),
    ("verify", "", "must be true, false or the absolute path of a file of certificates"),
    ("external_id", "x", "must be a text of 2 to 1224 letters, digits or any of"),
    ("external_id", "x 1", "must be a text of 2 to 1224 letters, digits or any of"),
    ("endpoint_url", "127.0.0.1:4566", "must be a URL that begins with http:// or https://"),
    ("endpoint_url", "http://h:notaport", "has a port that is not a number from 1 to 65535"),
    ("endpoint_url", "http://h:0", "has a port that is not a number from 1 to 65535"),
    ("endpoint_url", "http://h:99999/", "has a port that is not a number from 1 to 65535"),
    ("endpoint_url", "http://:4566", "must be a URL that begins with http:// or https:// and a host"),
    ("endpoint_url", "http://a..b", "has a host that is neither a host name nor an IP address"),
    ("endpoint_url", "http://[::1", "has a host that is neither a host name nor an IP address"),
    ("endpoint_url", "http://h\0", "has a host that is neither a host name nor an IP address"),
    ("endpoint_url", "http://h/\0", "must be a URL that begins with http:// or https:// and a host"),
    ("config", ["retries"], "must be a JSON object, not a list"),
    ("connections_lookup_pattern", "red(", "must be a regular expression; 'red(' is not one"),
    ("connections_lookup_pattern", "a{99999999999999}", "must be a regular expression; 'a{99999999999999}' is not one"),
    ("managed_conn_ids", "dw_[", "must be a regular expression; 'dw_[' is not one"),
    ("managed_conn_ids", "", "must be one line of text that is not empty"),
    ("managed_conn_ids", ["analytics"], "must be one line of text that is not empty, not ['analytics']"),
    ("required_tags", {"env": 1}, "must give each tag key one text as its value; 'env' has a int"),
    ("required_tags", {"": "prod"}, "has a tag that must be a tag key as AWS allows it, 1 to 128 letters"),
    ("required_tags", {"k" * 129: "prod"}, "has a tag that must be a tag key as AWS allows it"),
    ("required_tags", {"env": "v" * 257}, "has a tag that must be a tag value as AWS allows it, at most 256 letters"),
    ("required_tags", {"env": "prod;test"}, "or any of + - = . _ : / @, not 'prod;test'"),
    ("required_tags", {"env": "a\nb"}, "has a tag that must be a tag value as AWS allows it"),
    ("required_tags", "env", "must be JSON, which it is not"),
    ("required_tags", "[" * 100_000, "must be JSON with less nesting"),
    ("allowed_accounts", [12345678901], "must be an AWS account of 12 digits, in quotes"),
    ("allowed_accounts", ["\u0661" * 12], "must be an AWS account of 12 digits, in quotes"),
    ("on_conflict", "newest", "must be one of refuse, oldest, not 'newest'"),
    ("auth", "dbuser", "not 'dbuser' (did you mean 'db-user'?)"),
    ("db_user", "IAM:etl", "AWS adds the prefix: write 'etl'"),
    ("db_user", "a/b", "must be a database user as AWS accepts it"),
    ("db_user", "Select", "must not be SELECT, which AWS reserves"),
    ("db_user", "etl_{dag}", "may only contain {dag_id} and {team}"),
    ("database", "1st", "must be a database name as AWS accepts it"),
    ("db_groups", ["Loaders"], "must be a database group as AWS accepts it"),
    ("db_roles", ["sys:monitor"], "must be a database role that a session tag can name"),
    ("db_roles", "x " * 3 + "y" * 252, "must be a database role that a session tag can name"),
    ("auto_create", "yes", "must be true or false, not 'yes'"),
    ("auto_create", 1, "must be true or false, not 1"),
    ("duration_seconds", 899, "must be between 900 and 3600 seconds, not 899"),
    ("duration_seconds", "3601", "must be between 900 and 3600 seconds, not 3601"),
    ("duration_seconds", "1h", "must be a whole number of seconds, not '1h'"),
    ("duration_seconds", True, "must be a whole number of seconds, not True"),
    ("duration_seconds", float("inf"), "must be a whole number of seconds, not inf"),
    ("conn_type", "postgre", "must be one of redshift, postgres, not 'postgre' (did you mean 'postgres'?)"),
    ("conn_type", "aws", "must be one of redshift, postgres, not 'aws'"),
    ("extra", {"host": "x"}, "must not contain 'host'"),
    ("extra", {"timeout": float("nan")}, "has a value for 'timeout' that JSON cannot hold, such as NaN or 1e400"),
    ("extra", '{"timeout": 1e400}', "has a value for 'timeout' that JSON cannot hold, such as NaN or 1e400"),
    ("extra", {"a": {"b": [float("inf")]}}, "has a value for 'a' that JSON cannot hold"),
    ("extra", {"a": {1, 2}}, "has a value for 'a' that JSON cannot hold"),
    ("extra", {"a\nb": 1}, "must be one line of text that is not empty, not 'a\\nb'"),
    ("extra", "[]", "must be a JSON object, not a list"),
    (
        "sslmode",
        "verify_full",
        "must be one of verify-full, verify-ca, require, prefer, allow, disable, not 'verify_full'",
    ),
    ("sslmode", "verify_full", "(did you mean 'verify-full'?)"),
    ("sslmode", True, "must be one of verify-full, verify-ca,"),
    ("hosts", "nlb.corp", "must be JSON, which it is not"),
    ("sslrootcert", "corp.pem", "must be system or the absolute path of a file, not 'corp.pem'"),
    ("sslrootcert", "~/corp.pem", "must be system or the absolute path of a file, not '~/corp.pem'"),
    ("sslrootcert", "", "must be one line of text that is not empty, not ''"),
    ("allow_admin_secret", "on", "must be true or false, not 'on'"),
    ("min_validity_seconds", -1, "not -1"),
    ("min_validity_seconds", float("nan"), "must be a whole number of seconds, not nan"),
    ("catalog_ttl_seconds", 0, "not 0"),
    ("catalog_max_stale_seconds", "forever", "must be a whole number of seconds, not 'forever'"),
    ("aws_timeout_seconds", 0, "not 0"),
    ("accounts", {"role_arn": ROLE}, "must be a JSON list of objects, each with a role_arn"),
    ("accounts", [{"role_arn": ROLE}, {"role_arn": ROLE}], f"names the role {ROLE} twice"),
    ("cache", "host", "must be JSON, which it is not"),
    ("fallback", '{"backend": "a.B"', "must be JSON, which it is not"),
]


IMPOSSIBLE_INSIDE = [
    ("accounts[0]", [ROLE], " must be a JSON object like"),
    (
        "accounts[1]",
        [{"role_arn": ROLE}, {"regions": ["eu-west-1"]}],
        " has no role_arn: name the role to assume there",
    ),
    ("accounts[0].role_arn", [{"role_arn": "airflow"}], " must be the ARN of an IAM role"),
    (
        "accounts[0].regions",
        [{"role_arn": ROLE, "regions": ["x"]}],
        " must be an AWS region such as eu-west-1, not 'x'",
    ),
    ("accounts[0].external_id", [{"role_arn": ROLE, "external_id": "x"}], " must be a text of 2 to 1224"),
    (
        "accounts[0].region",
        [{"role_arn": ROLE, "region": "eu-west-1"}],
        ": unknown setting (did you mean 'regions'?)",
    ),
    ("cache.hosts", {"hosts": True}, ": unknown setting (did you mean 'host'?)"),
    ("cache.path", {"path": "here"}, " must be an absolute path, not 'here'"),
    ("cache.path", {"path": "/run/\0"}, " must be one line of text"),
    (
        "cache.redis_url",
        {"redis_url": "http://cache"},
        " must be a URL of Redis or Valkey that begins with one of redis",
    ),
    ("cache.redis_url", {"redis_url": "redis://h:notaport/0"}, " has a port that is not a number from 1 to 65535"),
    ("cache.redis_url", {"redis_url": "redis://h/one"}, " names a database that is not a whole number: write redis://"),
    ("cache.redis_url", {"redis_url": "redis+sentinel://h"}, " names no service: write redis+sentinel://"),
    ("cache.redis_url", {"redis_url": "rediss://h/0?nonsense=1"}, " has an option that rediss:// does not have"),
    ("cache.redis_url", {"redis_url": ["redis://h"]}, " must be a URL of Redis or Valkey"),
    ("cache.key", {"key": "short"}, " must be one or more Fernet keys"),
    ("cache.key", {"key": f"{KEY},"}, " must be one or more Fernet keys"),
    ("config.nonsense", {"nonsense": 1}, ": unknown option of botocore's Config"),
    ("fallback[0]", 7, " must be the path of a class, or a JSON object"),
    ("fallback[1]", ["a.B", ["c.D"]], " must be the path of a class, or a JSON object"),
    ("fallback[0]", [{"backend_kwargs": {}}], " has no backend: write"),
    ("fallback[0]", [{"backend": None}], " has no backend: write"),
    ("fallback[0].backend", "backend", " must be the full path of a class, like a.module.ABackend"),
    ("fallback[0].backend", [{"backend": "a.b-c"}], " must be the full path of a class, like a.module.ABackend"),
    ("fallback[0].backend", [{"backend": 7}], " must be the full path of a class, like a.module.ABackend"),
    ("fallback[0].backend_kwargs", [{"backend": "a.B", "backend_kwargs": [1]}], " must be a JSON object, not a list"),
    (
        "fallback[0].backend_kwarg",
        [{"backend": "a.B", "backend_kwarg": {}}],
        ": unknown setting (did you mean 'backend_kwargs'?)",
    ),
    ("fallback[0].class", [{"class": "a.B"}], ": write backend instead of class, as in [secrets]"),
    (
        "fallback[0].kwargs",
        [{"backend": "a.B", "kwargs": {"token": "hunter2"}}],
        ": write backend_kwargs instead of kwargs, as in [secrets]",
    ),
    *(
        ("fallback[0].backend", path, " is redshift-secrets itself: remove this entry")
        for path in sorted(BACKEND_CLASS_PATHS)
    ),
]
"""The path of a setting inside another one, the value of the whole, and what the message says after the path."""


TOGETHER = [
    ({"external_id": "x1"}, "external_id needs a role_arn"),
    ({"assume_role_kwargs": {"DurationSeconds": 900}}, "assume_role_kwargs needs a role_arn"),
    (
        {"external_id": "x1", "role_arn": ROLE, "assume_role_kwargs": {"ExternalId": "x1"}},
        "external_id and assume_role_kwargs.ExternalId are the same: set one of them",
    ),
    ({"external_id": "x1", "role_arn": None}, "external_id needs a role_arn"),
    ({"sslrootcert": "system", "sslmode": "verify-ca"}, "sslrootcert = system needs sslmode = verify-full"),
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


def problems_of(**kwargs: object) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as error:
        Settings.from_kwargs(kwargs)
    return error.value.problems


@pytest.mark.parametrize(("name", "raw", "said"), IMPOSSIBLE)
def test_an_impossible_value_stops_with_the_name_and_what_it_must_be(name: str, raw: object, said: str):
    (problem,) = problems_of(**{**NEEDS.get(name, {}), name: raw})
    assert problem.startswith(f"{name} ")
    assert said in problem


@pytest.mark.parametrize(("path", "raw", "said"), IMPOSSIBLE_INSIDE)
def test_an_impossible_value_inside_a_setting_stops_with_its_path(path: str, raw: object, said: str):
    (problem,) = problems_of(**{re.split(r"[.\[]", path)[0]: raw})
    assert problem.startswith(path + said)
    assert "hunter2" not in problem


def test_all_mistakes_inside_a_setting_are_listed_at_once():
    problems = problems_of(
        cache={"host": "no", "key": 1, "redis_url": "x"},
        accounts=[{"role_arn": "x", "regions": "y"}, {"regions": "z"}],
        fallback=[{"class": "a.B", "kwargs": {}}, {"backend": "b"}],
    )
    assert [re.split(r"[: ]", problem)[0] for problem in problems] == [
        "cache.host",
        "cache.key",
        "cache.redis_url",
        "accounts[0].role_arn",
        "accounts[0].regions",
        "accounts[1].regions",
        "accounts[1]",
        "fallback[0].class",
        "fallback[0].kwargs",
        "fallback[1].backend",
    ]


def test_every_setting_has_an_impossible_value_among_the_examples():
    assert {name for name, *_ in IMPOSSIBLE} == set(DEFAULTS)


@pytest.mark.parametrize("known", DEFAULTS)
def test_an_unknown_name_stops_with_the_nearest_known_one(known: str):
    for unknown in (known + "s", known[:-1], known.replace("_", "")):
        if unknown not in DEFAULTS:
            assert problems_of(**{unknown: "x"}) == (f"{unknown}: unknown setting (did you mean {known!r}?)",)


def test_a_name_that_is_like_no_other_stops_too():
    assert problems_of(qqq=1) == ("qqq: unknown setting",)


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
        "accounts[0]",
        "external_id",
    ]
    assert "regions" not in str(error.value)


@pytest.mark.parametrize(("kwargs", "said"), TOGETHER)
def test_settings_that_cannot_work_together_are_refused_with_both_names(kwargs: dict[str, object], said: str):
    (problem,) = problems_of(**kwargs)
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
def test_an_invalid_value_takes_part_in_no_comparison(kwargs: dict[str, object]):
    assert len(problems_of(**kwargs)) == 1


@pytest.mark.parametrize(
    "kwargs",
    [
        {"external_id": "x1", "role_arn": ROLE},
        {"min_validity_seconds": 899, "duration_seconds": 900},
        {"catalog_ttl_seconds": 600, "catalog_max_stale_seconds": 600},
        {"auth": "secret", "allow_admin_secret": True},
    ],
)
def test_settings_at_the_limit_of_what_works_together_are_accepted(kwargs: dict[str, object]):
    settings = Settings.from_kwargs(kwargs)
    assert {name: getattr(settings, name) for name in kwargs} == kwargs
