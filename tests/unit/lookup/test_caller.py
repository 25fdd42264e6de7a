"""Cache keys: anything that may change the caller, or the answer, changes the key."""

from __future__ import annotations

import os

import pytest
from msgspec.structs import fields, replace

from redshift_secrets.lookup import caller
from redshift_secrets.settings import Cache, Settings
from tests.unit.settings.test_settings import DEFAULTS, NEEDS, READ

ENVIRONMENT = {"HOME": "/home/airflow", "AWS_ACCESS_KEY_ID": "AKIA1", "AWS_PROFILE": "etl", "PATH": "/bin"}
FILES = {"/home/airflow/.aws/config": b"[profile etl]", "/home/airflow/.aws/credentials": b"[etl]"}


def fingerprint(environ=None, files=None):
    contents = FILES if files is None else files

    def read(path):
        try:
            return contents[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    return caller.caller_fingerprint({**ENVIRONMENT, **(environ or {})}, read)


def test_the_same_caller_has_the_same_fingerprint():
    assert fingerprint() == fingerprint()
    assert fingerprint({"PATH": "/usr/bin", "AIRFLOW_HOME": "/x"}) == fingerprint()


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
def test_an_environment_that_may_name_another_caller_has_another_fingerprint(environ):
    assert fingerprint(environ) != fingerprint()


@pytest.mark.parametrize("path", FILES, ids=os.path.basename)
def test_the_content_of_the_aws_files_is_part_of_the_fingerprint(path):
    assert fingerprint(files={**FILES, path: b"[profile etl]\nrole_arn = x"}) != fingerprint()
    assert fingerprint(files={other: content for other, content in FILES.items() if other != path}) != fingerprint()


def test_no_access_key_is_in_a_fingerprint():
    assert "AKIA1" not in fingerprint()


@pytest.mark.parametrize("name", [name for name in READ if name not in ("cache", "fallback")])
def test_every_setting_changes_the_fingerprint(name):
    settings = Settings.from_kwargs({**NEEDS.get(name, {}), name: READ[name][0]})
    base = Settings.from_kwargs(NEEDS.get(name, {}))
    assert caller.settings_fingerprint(settings) != caller.settings_fingerprint(base)


def test_the_setting_cache_does_not_change_the_fingerprint():
    moved = replace(Settings(), cache=Cache(path="/elsewhere"))
    assert caller.settings_fingerprint(moved) == caller.settings_fingerprint(Settings())
    assert {field.name for field in fields(Settings)} == set(DEFAULTS)
