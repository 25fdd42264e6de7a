"""Fingerprints: anything that may change the caller, or the answer, changes them; a token that is replaced does not."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pwd
import re

import pytest
from msgspec.structs import fields, replace

from redshift_secrets.lookup import caller
from redshift_secrets.lookup.caller import expand, expand_user, read_file
from redshift_secrets.settings import Cache, Settings
from tests.unit.settings.defaults import DEFAULTS, NEEDS
from tests.unit.settings.test_settings import READ

pytestmark = pytest.mark.attempt("get a password that was minted for another caller")

ENVIRONMENT = {"HOME": "/home/airflow", "AWS_ACCESS_KEY_ID": "AKIA1", "AWS_PROFILE": "etl", "PATH": "/bin"}
FILES = {"/home/airflow/.aws/config": b"[profile etl]", "/home/airflow/.aws/credentials": b"[etl]"}
PASSWD_HOME = pwd.getpwuid(os.getuid()).pw_dir


def fingerprint(environ=None, files=None):
    contents = FILES if files is None else files

    def read(path):
        try:
            return contents[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    environment = {**ENVIRONMENT, **(environ or {})}
    return caller.caller_fingerprint({name: value for name, value in environment.items() if value is not None}, read)


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
        {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/1"},
        {"AWS_CONTAINER_AUTHORIZATION_TOKEN": "t"},
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"},
        {"AWS_DEFAULT_REGION": "eu-west-1"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
        {"AWS_CONFIG_FILE": "/elsewhere"},
        {"BOTO_CONFIG": "/elsewhere"},
        {"http_proxy": "http://127.0.0.1:1"},
        {"HOME": "/home/other"},
    ],
    ids=lambda environ: next(iter(environ)),
)
def test_an_environment_that_may_name_another_caller_has_another_fingerprint(environ):
    assert fingerprint(environ) != fingerprint()


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({}, "/home/airflow/.aws/config"),
        ({}, "/home/airflow/.aws/credentials"),
        ({}, "/home/airflow/.boto"),
        ({}, "/etc/boto.cfg"),
        ({"HOME": "/home/airflow/"}, "/home/airflow/.aws/config"),
        ({"HOME": ""}, "/.aws/config"),
        ({"HOME": None}, f"{PASSWD_HOME}/.aws/config"),
        ({"HOME": None}, f"{PASSWD_HOME}/.aws/credentials"),
        ({"HOME": None}, f"{PASSWD_HOME}/.boto"),
        ({"BOTO_CONFIG": "/a/boto"}, "/a/boto"),
        ({"BOTO_CONFIG": "~/boto"}, "/home/airflow/boto"),
        ({"AWS_CONFIG_FILE": "/a/config"}, "/a/config"),
        ({"AWS_CONFIG_FILE": "~/config"}, "/home/airflow/config"),
        ({"AWS_CONFIG_FILE": "$TENANT/config", "TENANT": "/etl"}, "/etl/config"),
        ({"AWS_SHARED_CREDENTIALS_FILE": "/a/${TENANT}/keys", "TENANT": "etl"}, "/a/etl/keys"),
        ({"AWS_SHARED_CREDENTIALS_FILE": "$NOT_SET/keys"}, "$NOT_SET/keys"),
        ({"BOTO_CONFIG": "/a/$TENANT", "TENANT": "etl"}, "/a/etl"),
        ({"AWS_CREDENTIAL_FILE": "~/ec2"}, "/home/airflow/ec2"),
        ({"AWS_CREDENTIAL_FILE": "/a/$TENANT", "TENANT": "etl"}, "/a/$TENANT"),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/a/token"}, "/a/token"),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "~/token"}, "~/token"),
        ({"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/a/token"}, "/a/token"),
    ],
    ids=str,
)
def test_the_content_of_each_file_is_part_of_the_fingerprint_where_botocore_reads_it(environ, path):
    found = {fingerprint(environ, {path: content}) for content in (b"[one]", b"[other]", b"")}
    assert len({*found, fingerprint(environ, {})}) == 4


def test_a_variable_in_a_path_names_another_file():
    files = {"/etl/config": b"[profile a]\nrole_arn = r", "/bi/config": b"[profile b]\nrole_arn = r"}
    environ = {"AWS_CONFIG_FILE": "$TENANT/config"}
    assert fingerprint({**environ, "TENANT": "/etl"}, files) != fingerprint({**environ, "TENANT": "/bi"}, files)


def test_botos_own_files_are_not_read_where_a_variable_names_another():
    one, other = ({"/home/airflow/.boto": content} for content in (b"[one]", b"[other]"))
    assert fingerprint({"BOTO_CONFIG": "/elsewhere"}, one) == fingerprint({"BOTO_CONFIG": "/elsewhere"}, other)


@pytest.mark.parametrize("home", ["/home/airflow", "/home/airflow/", "", "/", None])
@pytest.mark.parametrize(
    "path",
    [
        "~",
        "~/x",
        "~root/x",
        "~nobody-of-this-name/x",
        "$A/x",
        "${A}/x",
        "$A$B/${C}",
        "~/$A",
        "$Aä/x",
        "$A",
        "$",
        "${",
        "a$",
    ],
)
def test_paths_are_expanded_as_python_expands_them(monkeypatch, path, home):
    monkeypatch.setenv("A", "~/$B")
    monkeypatch.setenv("B", "/b")
    if home is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", home)
    assert expand(path, os.environ) == os.path.expanduser(os.path.expandvars(path))
    assert expand_user(path, os.environ) == os.path.expanduser(path)


def test_only_a_regular_file_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"content")
    assert read_file(str(tmp_path / "file")) == b"content"
    for other in (tmp_path / "pipe", tmp_path, tmp_path / "missing", "/dev/zero", "a\0b"):
        with pytest.raises(FileNotFoundError):
            read_file(str(other))


# --- tokens

DEEP = b'{"sub": "a", "aud": ' + b"[" * 99_999
TOKEN = {"iss": "https://oidc.eks", "sub": "system:serviceaccount:airflow:etl", "aud": ["sts.amazonaws.com"], "exp": 1}
BY_ENVIRONMENT = [
    {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token", "AWS_ROLE_ARN": "r"},
    {
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/token",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials",
    },
    {"AWS_CONFIG_FILE": "/config"},
    {"AWS_SHARED_CREDENTIALS_FILE": "/config"},
]


def jwt(signature=b"c2ln", **changes):
    payload = base64.urlsafe_b64encode(json.dumps({**TOKEN, **changes}).encode()).rstrip(b"=")
    return b".".join([b"e30", payload, signature])


def with_token(environ, token):
    config = b"[profile web]\nrole_arn = r\nweb_identity_token_file = /token"
    return fingerprint(environ, {"/config": config, **({} if token is None else {"/token": token})})


@pytest.mark.parametrize("environ", BY_ENVIRONMENT, ids=lambda environ: next(iter(environ)))
class TestTokens:
    def test_a_token_that_is_replaced_is_for_the_same_caller(self, environ):
        replaced = jwt(exp=2, iat=3, nbf=3, jti="other", signature=b"b3RoZXI")
        assert with_token(environ, replaced) == with_token(environ, jwt()) == with_token(environ, jwt() + b"\n")

    @pytest.mark.parametrize(
        "changes",
        [
            {"sub": "system:serviceaccount:airflow:bi"},
            {"iss": "https://oidc.other"},
            {"aud": ["other"]},
            {"https://aws.amazon.com/tags": {"principal_tags": {"RedshiftDbUser": ["admin"]}}},
            {"https://aws.amazon.com/source_identity": "ann"},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_a_token_for_somebody_else_is_another_caller(self, environ, changes):
        assert with_token(environ, jwt(**changes)) != with_token(environ, jwt())

    @pytest.mark.parametrize(
        "token",
        [
            None,
            b"",
            b"opaque",
            b"..",
            b"a.b.c.d",
            b"e30.e30.x",
            b"e30.!.x",
            b"\xff.\xff.\xff",
            jwt(sub=None),
            jwt(sub=7),
            b"e30." + base64.urlsafe_b64encode(DEEP) + b".x",
        ],
        ids=lambda token: repr(token)[:20],
    )
    def test_of_anything_else_the_bytes_count(self, environ, token):
        assert with_token(environ, token) != with_token(environ, jwt())
        assert with_token(environ, token) == with_token(environ, token)
        assert with_token(environ, token) != with_token(environ, (token or b"") + b"x")


SSO = b"[profile a]\nsso_session = corp\nsso_role_name = etl\nsso_account_id = 1\n[sso-session corp]\nsso_start_url = https://x"
OLD_SSO = b"[profile a]\nsso_start_url = https://x\nsso_role_name = etl\nsso_account_id = 1\n"


@pytest.mark.parametrize(
    ("config", "name"), [(SSO, b"corp"), (OLD_SSO, b"https://x")], ids=["sso-session", "start URL"]
)
def test_another_login_with_aws_sso_is_another_caller(config, name):
    file = f"/home/airflow/.aws/sso/cache/{hashlib.sha1(name).hexdigest()}.json"
    found = [
        fingerprint(files={"/home/airflow/.aws/config": config, **login})
        for login in ({}, {file: b'{"accessToken": "ann"}'}, {file: b'{"accessToken": "bob"}'})
    ]
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({}, "/home/airflow/.aws/login/cache"),
        ({"AWS_LOGIN_CACHE_DIRECTORY": "~/$D", "D": "logins"}, "/home/airflow/logins"),
    ],
)
def test_another_login_with_aws_login_is_another_caller_and_a_renewed_one_is_not(environ, folder):
    session = "arn:aws:iam::1:user/ann"
    file = f"{folder}/{hashlib.sha256(session.encode()).hexdigest()}.json"
    config = {"/home/airflow/.aws/config": f"[profile a]\nlogin_session = {session}".encode()}

    def after(**changes):
        content = json.dumps({"accessToken": {"accessKeyId": "1"}, "refreshToken": "r", "dpopKey": "k", **changes})
        return fingerprint(environ, {**config, file: content.encode()})

    assert after(accessToken={"accessKeyId": "2"}, refreshToken="s") == after()
    assert after(dpopKey="other") != after()
    broken = [fingerprint(environ, {**config, **files}) for files in ({}, {file: b"x"}, {file: DEEP})]
    assert len({*broken, after()}) == 4


@pytest.mark.parametrize(
    "config",
    [
        b"\xff\xfe",
        b"no section",
        b"[a]\n[a]",
        b"[profile 'x]\nweb_identity_token_file = a\0b",
        b"[profile a b]\nrole_arn = x",
    ],
)
def test_a_file_that_cannot_be_parsed_still_counts(config):
    assert fingerprint(files={"/home/airflow/.aws/config": config}) != fingerprint(files={})


def test_parsed_files_are_not_kept_with_their_secrets(monkeypatch):
    parsed = {}
    monkeypatch.setattr("redshift_secrets.lookup.caller._parsed", parsed)
    secret = (
        b"[a]\naws_access_key_id = AKIASECRET\naws_secret_access_key = SECRET\ncredential_process = x --token SECRET"
    )
    fingerprint(files={"/home/airflow/.aws/credentials": secret})
    assert parsed
    assert "SECRET" not in repr(parsed)
    for number in range(50):
        fingerprint(files={"/home/airflow/.aws/credentials": b"[%d]" % number})
    assert len(parsed) <= 8


def test_no_access_key_is_in_a_fingerprint():
    assert "AKIA1" not in fingerprint()


def test_a_hidden_text_counts_with_its_content():
    class Hidden(str):
        __slots__ = ()

        def __str__(self):
            return "***"

    assert caller.fingerprint(Hidden("one")) == caller.fingerprint("one") != caller.fingerprint(Hidden("other"))
    assert caller.fingerprint(re.compile("a")) == caller.fingerprint("a")


@pytest.mark.parametrize("name", [name for name in READ if name not in ("cache", "audit", "fallback")])
def test_every_setting_changes_the_fingerprint(name):
    settings = Settings.from_kwargs({**NEEDS.get(name, {}), name: READ[name][0]})
    base = Settings.from_kwargs(NEEDS.get(name, {}))
    assert caller.settings_fingerprint(settings) != caller.settings_fingerprint(base)


def test_where_answers_are_kept_and_written_down_does_not_change_the_fingerprint():
    moved = replace(Settings(), cache=Cache(path="/elsewhere"), audit="/var/log/audit.jsonl")
    assert caller.settings_fingerprint(moved) == caller.settings_fingerprint(Settings())
    assert {field.name for field in fields(Settings)} == set(DEFAULTS)
