"""Where botocore finds credentials, as `credential_source` says and as botocore does; and what botocore could find them by
that this package does not know yet."""

from __future__ import annotations

import itertools
import json
import os

import botocore.session
import pytest
from botocore import configprovider, credentials
from botocore.credentials import create_credential_resolver
from botocore.tokens import create_token_resolver
from botocore.utils import ContainerMetadataFetcher, InstanceMetadataFetcher

from redshift_secrets.lookup.caller import caller_fingerprint
from redshift_secrets.lookup.credential_source import credential_source

PROVIDERS = {
    "env": "local: the variables are in the fingerprint",
    "assume-role": "the source of the profile whose credentials it uses, with both files in the fingerprint",
    "assume-role-with-web-identity": "local: the token's subject is in the fingerprint",
    "sso": "local: the file of the login is in the fingerprint",
    "shared-credentials-file": "local: the file is in the fingerprint",
    "login": "local: the file of the login, without what rotates, is in the fingerprint",
    "custom-process": "process: STS is asked",
    "config-file": "local: the file is in the fingerprint",
    "ec2-credentials-file": "local: the file is in the fingerprint",
    "boto-config": "local: the files are in the fingerprint",
    "container-role": "local: the URI and the token's subject are in the fingerprint",
    "iam-role": "metadata: STS is asked",
}
"""botocore's credential providers, and how the callers that each finds credentials for are told apart."""

IN_FINGERPRINT = "a variable with the prefix AWS_, or an option of the config file: both are in the fingerprint"
VARIABLES = {
    "profile": IN_FINGERPRINT, "region": IN_FINGERPRINT, "data_path": IN_FINGERPRINT, "config_file": IN_FINGERPRINT,
    "ca_bundle": IN_FINGERPRINT, "api_versions": IN_FINGERPRINT, "credentials_file": IN_FINGERPRINT,
    "metadata_service_timeout": IN_FINGERPRINT, "metadata_service_num_attempts": IN_FINGERPRINT,
    "ec2_metadata_service_endpoint": IN_FINGERPRINT, "ec2_metadata_service_endpoint_mode": IN_FINGERPRINT,
    "ec2_metadata_v1_disabled": IN_FINGERPRINT, "imds_use_ipv6": IN_FINGERPRINT,
    "use_dualstack_endpoint": IN_FINGERPRINT, "use_fips_endpoint": IN_FINGERPRINT,
    "ignore_configured_endpoint_urls": IN_FINGERPRINT, "parameter_validation": IN_FINGERPRINT,
    "csm_enabled": IN_FINGERPRINT, "csm_host": IN_FINGERPRINT, "csm_port": IN_FINGERPRINT,
    "csm_client_id": IN_FINGERPRINT, "endpoint_discovery_enabled": IN_FINGERPRINT,
    "sts_regional_endpoints": IN_FINGERPRINT, "retry_mode": IN_FINGERPRINT, "defaults_mode": IN_FINGERPRINT,
    "max_attempts": IN_FINGERPRINT, "user_agent_appid": IN_FINGERPRINT,
    "request_min_compression_size_bytes": IN_FINGERPRINT, "disable_request_compression": IN_FINGERPRINT,
    "sigv4a_signing_region_set": IN_FINGERPRINT, "request_checksum_calculation": IN_FINGERPRINT,
    "response_checksum_validation": IN_FINGERPRINT, "account_id_endpoint_mode": IN_FINGERPRINT,
    "disable_host_prefix_injection": IN_FINGERPRINT, "auth_scheme_preference": IN_FINGERPRINT,
    "tcp_keepalive": "BOTOCORE_TCP_KEEPALIVE: how connections are kept, not as whom",
    "s3_disable_express_session_auth": IN_FINGERPRINT,
}  # fmt: skip
"""botocore's session variables, and why each is no way to be taken for another caller."""


def test_every_provider_of_credentials_is_known():
    found = {provider.METHOD for provider in create_credential_resolver(botocore.session.Session()).providers}
    assert found - set(PROVIDERS) == set(), "say how its callers are told apart, in lookup/caller.py and here"
    classes = [each for each in vars(credentials).values() if isinstance(each, type)]
    classes = [each for each in classes if issubclass(each, credentials.CredentialProvider)]
    assert {each.METHOD for each in classes} - {None} - set(PROVIDERS) == set()


def test_every_provider_of_tokens_is_known():
    """`env` has bearer tokens of Bedrock; no service that is called here takes one."""
    assert {each.METHOD for each in create_token_resolver(botocore.session.Session())._providers} <= {"env", "sso"}


def test_every_session_variable_is_known():
    variables = configprovider.BOTOCORE_DEFAUT_SESSION_VARIABLES
    assert set(variables) - set(VARIABLES) == set(), "say why it is no way to be taken for another caller"
    names = {name: option[1] if isinstance(option[1], list) else [option[1]] for name, option in variables.items()}
    for name in itertools.chain.from_iterable(names[each] for each in names if VARIABLES[each] == IN_FINGERPRINT):
        if name is not None:
            assert caller_fingerprint({"HOME": "/x", name: "1"}) != caller_fingerprint({"HOME": "/x"})


PROCESS = "credential_process = /bin/echo '" + json.dumps(
    {"Version": 1, "AccessKeyId": "process", "SecretAccessKey": "s", "Expiration": "2999-01-01T00:00:00Z"}
) + "'"  # fmt: skip
KEYS = "aws_access_key_id = file\naws_secret_access_key = s"
SSO = "sso_start_url = https://x\nsso_region = eu-west-1\nsso_role_name = r\nsso_account_id = 1"
WEB = "role_arn = r\nweb_identity_token_file = /token"
ENV_KEYS = {"AWS_ACCESS_KEY_ID": "env", "AWS_SECRET_ACCESS_KEY": "s"}
ENV_WEB = {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token", "AWS_ROLE_ARN": "r"}
CONTAINER = {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2"}
CONTAINER_FULL = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1/v2"}


def config(**profiles):
    return "\n".join(
        f"[{'default' if name == 'default' else f'profile {name}'}]\n{body}" for name, body in profiles.items()
    )


def keys_file(**profiles):
    return "\n".join(f"[{name}]\n{body}" for name, body in profiles.items())


CASES = {
    "nothing": ({}, "", "", None),
    "keys of the environment": (ENV_KEYS, config(default=PROCESS), "", None),
    "an empty key in the environment": ({"AWS_ACCESS_KEY_ID": ""}, config(default=PROCESS), "", None),
    "keys of the environment beside a profile of it": ({**ENV_KEYS, "AWS_PROFILE": "a"}, config(a=PROCESS), "", None),
    "keys of the environment beside a profile of the settings": (ENV_KEYS, config(a=PROCESS), "", "a"),
    "a profile of the settings without credentials": (ENV_KEYS, config(a="region = x"), "", "a"),
    "a program": ({}, config(default=PROCESS), "", None),
    "a program of a profile": ({"AWS_PROFILE": "a"}, config(a=PROCESS), "", None),
    "a program of another profile": ({"AWS_PROFILE": "a"}, config(a="region = x", default=PROCESS), "", None),
    "the older variable for a profile": (
        {"AWS_PROFILE": "a", "AWS_DEFAULT_PROFILE": "b"}, config(a=KEYS, b=PROCESS), "", None),
    "a program in the credentials file": ({}, "", keys_file(default=PROCESS), None),
    "a program beside keys in the config file": ({}, config(default=f"{PROCESS}\n{KEYS}"), "", None),
    "a program beside keys in the credentials file": ({}, config(default=PROCESS), keys_file(default=KEYS), None),
    "a program beside web identity": ({}, config(default=f"{PROCESS}\n{WEB}"), "", None),
    "a program beside web identity of the environment": (ENV_WEB, config(default=PROCESS), "", None),
    "the same for a profile of the settings": (ENV_WEB, config(a=PROCESS), "", "a"),
    "an empty token file in the environment": ({"AWS_WEB_IDENTITY_TOKEN_FILE": ""}, config(default=PROCESS), "", None),
    "a program beside SSO": ({}, config(default=f"{PROCESS}\n{SSO}"), "", None),
    "a program beside a container": (CONTAINER, config(default=PROCESS), "", None),
    "a program for every section": ({}, f"[DEFAULT]\n{PROCESS}\n[default]\nregion = x", "", None),
    "a quoted profile": ({"AWS_PROFILE": "a b"}, f"[profile 'a b']\n{PROCESS}", "", None),
    "a section that is no profile": ({"AWS_PROFILE": "a"}, f"[a]\n{PROCESS}\n[profile a]\nregion = x", "", None),
    "a profile in both files": ({}, config(default=PROCESS), keys_file(default="region = x"), None),
    "a section whose title is no shell word": ({}, f"[profile 'x]\nregion = x\n[default]\n{PROCESS}", "", None),
    "web identity beside a role": ({}, config(default=f"{WEB}\nsource_profile = b", b=PROCESS), "", None),
    "a role by keys of a profile that assumes a role": (
        {}, config(default="role_arn = r\nsource_profile = b", b=f"{KEYS}\nrole_arn = r\nsource_profile = c", c=PROCESS),
        "", None),
    "the default profile twice": ({}, f"[default]\n{KEYS}\n[profile default]\n{PROCESS}", "", None),
    "keys in the config file": ({}, config(default=KEYS), "", None),
    "keys in the credentials file": ({}, "", keys_file(default=KEYS), None),
    "a container": (CONTAINER, "", "", None),
    "a container with a full URI": (CONTAINER_FULL, "", "", None),
    "a container beside a profile of the settings": (CONTAINER, config(a="region = x"), "", "a"),
    "a role by a program": ({}, config(default="role_arn = r\nsource_profile = b", b=PROCESS), "", None),
    "a role by a role by a program": (
        {}, config(default="role_arn = r\nsource_profile = b", b="role_arn = r\nsource_profile = c", c=PROCESS), "", None),
    "a role by keys": ({}, config(default="role_arn = r\nsource_profile = b"), keys_file(b=KEYS), None),
    "a role by keys beside a program": ({}, config(default="role_arn = r\nsource_profile = b", b=f"{KEYS}\n{PROCESS}"), "", None),
    "a role by its own keys": ({}, config(default=f"role_arn = r\nsource_profile = default\n{KEYS}"), "", None),
    "a role by web identity": ({}, config(default="role_arn = r\nsource_profile = b", b=WEB), "", None),
    "a role by the instance": ({}, config(default="role_arn = r\ncredential_source = Ec2InstanceMetadata"), "", None),
    "a role by a role by the instance": (
        {}, config(default="role_arn = r\nsource_profile = b", b="role_arn = r\ncredential_source = Ec2InstanceMetadata"),
        "", None),
    "a role by the environment": (
        {**ENV_KEYS, "AWS_PROFILE": "a"}, config(a="role_arn = r\ncredential_source = Environment"), "", "a"),
    "a role by a container": (CONTAINER, config(default="role_arn = r\ncredential_source = EcsContainer"), "", None),
    "the instance switched off": ({"AWS_EC2_METADATA_DISABLED": "true"}, "", "", None),
    "the instance not quite switched off": ({"AWS_EC2_METADATA_DISABLED": "1"}, "", "", None),
    "the instance for a profile of the settings": ({}, config(a="region = x"), "", "a"),
}  # fmt: skip
"""By name: variables, config file, credentials file, and the profile of the settings."""
BROKEN = {
    "a role by itself": config(default="role_arn = r\nsource_profile = default"),
    "roles in a circle": config(default="role_arn = r\nsource_profile = b", b="role_arn = r\nsource_profile = default"),
    "a role by nobody": config(default="role_arn = r"),
    "a role by a profile that is missing": config(default="role_arn = r\nsource_profile = b"),
    "a program beside a login": config(default=f"login_session = arn:aws:iam::1:user/ann\n{PROCESS}"),
    "a role by a profile without credentials": config(default="role_arn = r\nsource_profile = b", b="region = x"),
}


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """Sets variables and files, as of a process that is on an instance and may be in a container."""
    monkeypatch.setattr(
        InstanceMetadataFetcher,
        "retrieve_iam_role_credentials",
        lambda fetcher: {} if fetcher._disabled else metadata("instance"),
    )
    answer = {"AccessKeyId": "container", "SecretAccessKey": "s", "Token": "t", "Expiration": "2999-01-01T00:00:00Z"}
    monkeypatch.setattr(ContainerMetadataFetcher, "retrieve_full_uri", lambda *_arguments, **_options: answer)

    def put(variables, config_file, credentials_file):
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(tmp_path))
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        (tmp_path / ".aws").mkdir()
        (tmp_path / ".aws/config").write_text(config_file)
        (tmp_path / ".aws/credentials").write_text(credentials_file)

    return put


def metadata(key):
    return {"role_name": "r", "access_key": key, "secret_key": "s", "token": "t", "expiry_time": "2999-01-01T00:00:00Z"}


def botocore_finds(profile_name):
    """Return in our words where botocore finds credentials."""
    found = create_credential_resolver(botocore.session.Session(profile=profile_name)).load_credentials()
    while found is not None and found.method == "assume-role":
        found = found._refresh_using.__self__._source_credentials
    method = found.method if found is not None else ""
    return {"iam-role": "metadata", "custom-process": "process"}.get(method, "local")


@pytest.mark.parametrize("case", CASES)
def test_credentials_are_found_where_botocore_finds_them(environment, case):
    variables, config_file, credentials_file, profile_name = CASES[case]
    environment(variables, config_file, credentials_file)
    assert credential_source(os.environ, profile_name) == botocore_finds(profile_name)


@pytest.mark.parametrize("variable", ["AWS_CREDENTIAL_FILE", "BOTO_CONFIG", None])
@pytest.mark.parametrize("has_key", [True, False])
def test_the_files_of_older_tools(environment, tmp_path, variable, has_key):
    file = tmp_path / ("older" if variable else ".boto")
    environment({variable: "~/older"} if variable else {}, "", "")
    lines = "AWSAccessKeyId = k\nAWSSecretKey = s" if variable == "AWS_CREDENTIAL_FILE" else f"[Credentials]\n{KEYS}"
    file.write_text(lines if has_key else "[Other]\nx = y")
    assert credential_source(os.environ, None) == botocore_finds(None) == ("local" if has_key else "metadata")


@pytest.mark.parametrize("case", BROKEN)
def test_where_botocore_finds_nothing_nobody_is_asked(environment, case):
    if "login_session" in BROKEN[case] and not hasattr(credentials, "LoginProvider"):
        pytest.skip("this botocore does not know aws login")
    environment({}, BROKEN[case], "")
    with pytest.raises(Exception, match=r"source_profile|source profile|Infinite loop|does not exist|login"):
        botocore_finds(None)
    assert credential_source(os.environ, None) == "local"
