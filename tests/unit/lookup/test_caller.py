"""Bound to who asks: whatever may change whom AWS sees, or what was asked for, changes the name it is cached under."""

from __future__ import annotations

import os

import pytest
from msgspec.structs import fields, replace

from redshift_secrets.lookup import caller as asker
from redshift_secrets.settings.settings import Cache, Settings
from tests.unit.settings.test_settings import DEFAULTS, NEEDS, READ

ENVIRONMENT = {"HOME": "/home/airflow", "AWS_ACCESS_KEY_ID": "AKIA1", "AWS_PROFILE": "etl", "PATH": "/bin"}
FILES = {"/home/airflow/.aws/config": b"[profile etl]", "/home/airflow/.aws/credentials": b"[etl]"}


def host(environ=None, files=None):
    contents = FILES if files is None else files

    def read(path):
        try:
            return contents[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    return asker.caller_fingerprint({**ENVIRONMENT, **(environ or {})}, read)


def test_the_same_asker_has_the_same_name():
    assert host() == host()
    assert host({"PATH": "/usr/bin", "AIRFLOW_HOME": "/x"}) == host()


@pytest.mark.parametrize(
    "environ",
    [
        {"AWS_ACCESS_KEY_ID": "AKIA2"},
        {"AWS_PROFILE": "bi"},
        {"AWS_SESSION_TOKEN": "t"},
        {"AWS_ROLE_ARN": "arn:aws:iam::1:role/x"},
        {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token"},
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials"},
        {"AWS_DEFAULT_REGION": "eu-west-1"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
        {"AWS_CONFIG_FILE": "/elsewhere"},
        {"HOME": "/home/other"},
    ],
    ids=lambda environ: next(iter(environ)),
)
def test_who_aws_may_know_as_somebody_else_has_another_name(environ):
    assert host(environ) != host()


@pytest.mark.parametrize("path", FILES, ids=os.path.basename)
def test_what_the_aws_files_say_counts_and_not_when_they_were_written(path):
    assert host(files={**FILES, path: b"[profile etl]\nrole_arn = x"}) != host()
    assert host(files={other: content for other, content in FILES.items() if other != path}) != host()


def test_no_access_key_is_in_a_name():
    assert "AKIA1" not in host()


@pytest.mark.parametrize("name", [name for name in READ if name not in ("cache", "fallback")])
def test_every_setting_separates(name):
    settings = Settings.from_kwargs({**NEEDS.get(name, {}), name: READ[name][0]})
    base = Settings.from_kwargs(NEEDS.get(name, {}))
    assert asker.settings_fingerprint(settings) != asker.settings_fingerprint(base)


def test_where_it_is_cached_does_not_separate():
    moved = replace(Settings(), cache=Cache(path="/elsewhere"))
    assert asker.settings_fingerprint(moved) == asker.settings_fingerprint(Settings())
    assert {field.name for field in fields(Settings)} == set(DEFAULTS)
