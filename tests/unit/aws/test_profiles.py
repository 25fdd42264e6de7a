"""What a profile says of calls to AWS holds for the roles that are assumed from it, and STS is asked in a region of the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import botocore.session
import pytest

from redshift_secrets.aws.client import AwsClient
from redshift_secrets.aws.paging import ask_aws
from redshift_secrets.aws.sessions import Sessions
from redshift_secrets.errors import AwsError
from redshift_secrets.model import Scope
from redshift_secrets.settings import Settings

REGION = "us-east-1"
ROLE, OTHER = "arn:aws:iam::123456789012:role/own", "arn:aws:iam::210987654321:role/other"
CONFIG = """
[profile plain]
[profile fips]
use_fips_endpoint = true
[profile dualstack]
use_dualstack_endpoint = true
[profile services]
services = private
[profile url]
endpoint_url = http://127.0.0.1:9/all
[profile bundle]
ca_bundle = {bundle}
[profile retries]
max_attempts = 7
[profile chain]
role_arn = arn:aws:iam::123456789012:role/own
source_profile = plain
[profile token]
role_arn = arn:aws:iam::123456789012:role/own
web_identity_token_file = {token}
[services private]
redshift =
  endpoint_url = http://127.0.0.1:9/redshift
redshift_serverless =
  endpoint_url = http://127.0.0.1:9/serverless
sts =
  endpoint_url = http://127.0.0.1:9/sts
"""
IDENTITIES = {
    "the profile itself": ({}, {"role_arn": None}),
    "role_arn": ({"role_arn": ROLE}, {"role_arn": None}),
    "an account": ({"accounts": [{"role_arn": OTHER}]}, {"role_arn": OTHER}),
    "an account behind role_arn": ({"role_arn": ROLE, "accounts": [{"role_arn": OTHER}]}, {"role_arn": OTHER}),
    "session tags": ({"role_arn": ROLE}, {"role_arn": None, "tags": (("RedshiftDbUser", "etl"),)}),
}
each_identity = pytest.mark.parametrize(("settings", "identity"), IDENTITIES.values(), ids=IDENTITIES)


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    bundle = tmp_path / "bundle.pem"
    (token := tmp_path / "token").write_text("a.jwt.token")
    (tmp_path / "config").write_text(CONFIG.format(bundle=bundle, token=token))
    names = ("plain", "fips", "dualstack", "services", "url", "bundle", "retries")
    keys = "aws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = secret\n"
    (tmp_path / "credentials").write_text("".join(f"[{name}]\n{keys}" for name in names))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path


class Sts:
    """AssumeRole without a network: where it was asked, how its client checks certificates, and with what arguments."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.verify: list[Any] = []
        self.arguments: list[dict[str, Any]] = []
        self.configs: list[Any] = []
        self.modes: list[Any] = []

    def assume_role(self, **arguments: Any) -> dict[str, Any]:
        self.arguments.append(arguments)
        keys = {"AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "s", "SessionToken": "t"}
        return {"Credentials": {**keys, "Expiration": "2099-01-01T00:00:00Z"}, "AssumedRoleUser": {"Arn": ROLE}}


@pytest.fixture
def sts(monkeypatch: pytest.MonkeyPatch) -> Sts:
    asked, create_client = Sts(), botocore.session.Session.create_client

    def create(session: Any, service: str, **arguments: Any) -> Any:
        client = create_client(session, service, **arguments)
        if service != "sts":
            return client
        asked.urls.append(client.meta.endpoint_url)
        asked.verify.append(client._endpoint.http_session._verify)
        asked.configs.append(client.meta.config)
        asked.modes.append(arguments["config"].defaults_mode)
        client.assume_role = client.assume_role_with_web_identity = asked.assume_role
        return client

    monkeypatch.setattr(botocore.session.Session, "create_client", create)
    return asked


def sessions_of(**settings: Any) -> Sessions:
    return Sessions(Settings.from_kwargs({"regions": [REGION], **settings}), session_name=lambda: "me@here")


def assume(sessions: Sessions, identity: Any, service: str = "redshift", region: str = REGION) -> Any:
    client = sessions.client(service, region=region, **identity)
    client._request_signer._credentials.get_frozen_credentials()
    return client


@each_identity
@pytest.mark.parametrize(
    ("profile", "url", "serverless", "of_sts"),
    [
        ("plain", "https://redshift.us-east-1.amazonaws.com", None, "https://sts.us-east-1.amazonaws.com"),
        ("fips", "https://redshift-fips.us-east-1.amazonaws.com", None, "https://sts-fips.us-east-1.amazonaws.com"),
        ("dualstack", "https://redshift.us-east-1.api.aws", None, "https://sts.us-east-1.api.aws"),
        ("services", "http://127.0.0.1:9/redshift", "http://127.0.0.1:9/serverless", "http://127.0.0.1:9/sts"),
        ("url", "http://127.0.0.1:9/all", "http://127.0.0.1:9/all", "http://127.0.0.1:9/all"),
    ],
)
@pytest.mark.parametrize("by_setting", [True, False], ids=["profile_name", "AWS_PROFILE"])
def test_the_endpoints_are_those_of_the_profile(
    settings: Any, identity: Any, profile: str, url: str, serverless: str | None, of_sts: str, by_setting: bool,
    sts: Sts, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if not by_setting:
        monkeypatch.setenv("AWS_PROFILE", profile)
    sessions = sessions_of(**settings, **({"profile_name": profile} if by_setting else {}))
    assert assume(sessions, identity).meta.endpoint_url == url
    if serverless is not None:
        assert assume(sessions, identity, "redshift-serverless").meta.endpoint_url == serverless
    assert set(sts.urls) <= {of_sts}
    assert bool(sts.urls) == (settings != {})


@each_identity
def test_the_ca_bundle_is_that_of_the_profile(settings: Any, identity: Any, sts: Sts, files: Path) -> None:
    client = assume(sessions_of(profile_name="bundle", **settings), identity)
    bundle = str(files / "bundle.pem")
    assert client._endpoint.http_session._verify == bundle
    assert set(sts.verify) <= {bundle}


@each_identity
def test_so_are_other_options(settings: Any, identity: Any, sts: Sts) -> None:
    sessions = sessions_of(profile_name="retries", config={"proxies": {"https": "http://proxy:3128"}}, **settings)
    client = assume(sessions, identity)
    assert client.meta.config.proxies == {"https": "http://proxy:3128"}
    session, _ = sessions._identity_as(identity["role_arn"], identity.get("tags", ()))
    assert session.get_config_variable("max_attempts") == 7


@each_identity
@pytest.mark.parametrize("verify", [False, True, "/etc/ssl/corporate.pem", None])
def test_verify_holds_for_every_client(settings: Any, identity: Any, verify: Any, sts: Sts, files: Path) -> None:
    expected = str(files / "bundle.pem") if verify is None else verify
    client = assume(sessions_of(profile_name="bundle", verify=verify, **settings), identity)
    assert client._endpoint.http_session._verify == expected
    assert set(sts.verify) <= {expected}


def test_a_file_for_verify_that_is_not_there_is_an_error_of_that_call() -> None:
    client = AwsClient(Settings.from_kwargs({"profile_name": "plain", "regions": [REGION], "verify": "/not/there.pem"}))
    with pytest.raises(AwsError) as caught:
        client.list(Scope("cluster", REGION, None), ask_aws)
    assert caught.value.operation == "redshift:DescribeClusters"
    assert caught.value.host_only


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize(
    ("settings", "identity", "url"),
    [
        (
            {"regions": ["us-gov-west-1"], "role_arn": ROLE},
            {"role_arn": None},
            "https://sts.us-gov-west-1.amazonaws.com",
        ),
        ({"regions": ["cn-north-1"], "role_arn": ROLE}, {"role_arn": None}, "https://sts.cn-north-1.amazonaws.com.cn"),
        ({"regions": ["eu-west-1"], "role_arn": ROLE}, {"role_arn": None}, "https://sts.eu-west-1.amazonaws.com"),
        ({"region_name": "eu-west-1", "role_arn": ROLE}, {"role_arn": None}, "https://sts.eu-west-1.amazonaws.com"),
        (
            {"accounts": [{"role_arn": OTHER, "regions": ["cn-north-1"]}]},
            {"role_arn": OTHER},
            "https://sts.cn-north-1.amazonaws.com.cn",
        ),
        ({"role_arn": ROLE}, {"role_arn": None}, "https://sts.us-west-2.amazonaws.com"),
    ],
)
def test_sts_is_asked_in_a_region_of_the_settings(
    settings: Any, identity: Any, url: str, legacy: bool, sts: Sts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    if legacy:
        monkeypatch.setenv("AWS_STS_REGIONAL_ENDPOINTS", "legacy")
    assume(Sessions(Settings.from_kwargs({"profile_name": "plain", **settings})), identity, region="eu-west-1")
    assert sts.urls == [url]


def test_the_arguments_of_assume_role(sts: Sts) -> None:
    given = {"DurationSeconds": 900, "Tags": [{"Key": "team", "Value": "data"}], "ExternalId": "agreed"}
    accounts = [{"role_arn": OTHER, "external_id": "other-word"}]
    sessions = sessions_of(profile_name="plain", role_arn=ROLE, assume_role_kwargs=given, accounts=accounts)
    assume(sessions, {"role_arn": None})
    assume(sessions, {"role_arn": None, "tags": (("RedshiftDbUser", "etl"),)})
    assume(sessions, {"role_arn": OTHER})
    own = {"RoleArn": ROLE, "RoleSessionName": "me@here", **given}
    tagged = [*given["Tags"], {"Key": "RedshiftDbUser", "Value": "etl"}]  # type: ignore[misc]
    assert sts.arguments == [
        own,
        {**own, "Tags": tagged},
        {"RoleArn": OTHER, "RoleSessionName": "me@here", "ExternalId": "other-word"},
    ]


def test_no_session_reads_the_service_models_again(sts: Sts) -> None:
    sessions = sessions_of(profile_name="plain", role_arn=ROLE)
    loaders = {
        id(sessions._identity_as(None, (("RedshiftDbUser", user),)).session.get_component("data_loader"))
        for user in ("a", "b")
    }
    assert loaders == {id(sessions._session(None).get_component("data_loader"))}


@pytest.mark.parametrize("profile", ["chain", "token"])
def test_the_setting_config_holds_for_the_roles_of_profiles_too(profile: str, sts: Sts) -> None:
    config = {"use_fips_endpoint": True, "proxies": {"https": "http://proxy:3128"}, "read_timeout": 2}
    assume(sessions_of(profile_name=profile, config=config), {"role_arn": None})
    (own,) = sts.configs
    assert sts.urls == ["https://sts-fips.us-east-1.amazonaws.com"]
    assert (own.proxies, own.connect_timeout, own.read_timeout) == (config["proxies"], 2.5, 2)


def test_a_mode_of_defaults_is_never_looked_for_in_a_metadata_service(sts: Sts) -> None:
    assume(sessions_of(profile_name="chain", config={"defaults_mode": "auto"}), {"role_arn": None})
    assert sts.modes == ["standard"]
