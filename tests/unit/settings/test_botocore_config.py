"""The setting `config`: what botocore's Config accepts, known without botocore, and never repeated in a message."""

from __future__ import annotations

import json
import sys

import pytest
from botocore.config import Config

from redshift_secrets.errors import SettingsError
from redshift_secrets.settings import Settings, botocore_config

ACCEPTED = {
    "region_name": ("eu-west-1", "eu-west-1"),
    "signature_version": ("v4", "v4"),
    "user_agent": ("airflow", "airflow"),
    "user_agent_extra": ("airflow/3", "airflow/3"),
    "user_agent_appid": ("airflow", "airflow"),
    "connect_timeout": (0.5, 0.5),
    "read_timeout": ("5", 5.0),
    "parameter_validation": (False, False),
    "max_pool_connections": (20, 20),
    "proxies": (
        {"https": "http://me:hunter2@proxy.example:3128", "http://h": "proxy:3128", "http": "http://proxy/"},
        {"https": "http://me:hunter2@proxy.example:3128", "http://h": "proxy:3128", "http": "http://proxy/"},
    ),
    "proxies_config": (
        {
            "proxy_ca_bundle": "/ca.pem",
            "proxy_client_cert": ["/c.pem", "/k.pem"],
            "proxy_use_forwarding_for_https": "true",
        },
        {
            "proxy_ca_bundle": "/ca.pem",
            "proxy_client_cert": ("/c.pem", "/k.pem"),
            "proxy_use_forwarding_for_https": True,
        },
    ),
    "s3": ({"addressing_style": "path", "use_arn_region": True}, {"addressing_style": "path", "use_arn_region": True}),
    "s3_disable_express_session_auth": (True, True),
    "retries": ({"mode": "adaptive", "total_max_attempts": "5"}, {"mode": "adaptive", "total_max_attempts": 5}),
    "client_cert": (["/c.pem", "/k.pem"], ("/c.pem", "/k.pem")),
    "inject_host_prefix": (False, False),
    "endpoint_discovery_enabled": ("auto", "auto"),
    "use_dualstack_endpoint": ("true", True),
    "use_fips_endpoint": (True, True),
    "ignore_configured_endpoint_urls": (True, True),
    "defaults_mode": ("in-region", "in-region"),
    "tcp_keepalive": (True, True),
    "request_min_compression_size_bytes": (1024, 1024),
    "disable_request_compression": (True, True),
    "client_context_params": ({"a": True}, {"a": True}),
    "sigv4a_signing_region_set": ("*", "*"),
    "request_checksum_calculation": ("when_required", "when_required"),
    "response_checksum_validation": ("when_supported", "when_supported"),
    "account_id_endpoint_mode": ("disabled", "disabled"),
    "auth_scheme_preference": ("sigv4,sigv4a", "sigv4,sigv4a"),
}
"""A value of every option as JSON writes it, and what it is read as."""

REFUSED = [
    ({"nonsense": 1}, "config.nonsense: unknown option of botocore's Config"),
    (
        {"conect_timeout": 1},
        "config.conect_timeout: unknown option of botocore's Config (did you mean 'connect_timeout'?)",
    ),
    (
        {"retries": {"modes": "hunter2"}},
        "config.retries.modes: unknown option of botocore's Config (did you mean 'mode'?)",
    ),
    ({"retries": {"mode": "hunter2"}}, "config.retries.mode must be one of legacy, standard, adaptive"),
    ({"retries": {"total_max_attempts": 0}}, "config.retries.total_max_attempts must be a whole number from 1 to 100"),
    ({"retries": {"max_attempts": -1}}, "config.retries.max_attempts must be a whole number from 0 to 100"),
    ({"retries": "hunter2"}, "config.retries must be a JSON object of total_max_attempts, max_attempts, mode"),
    ({"retries": 3}, "config.retries must be a JSON object of total_max_attempts, max_attempts, mode"),
    ({"region_name": "hunter2"}, "config.region_name must be an AWS region such as eu-west-1"),
    ({"user_agent": "a\nhunter2"}, "config.user_agent must be one line of text that is not empty"),
    ({"signature_version": 4}, "config.signature_version must be one line of text that is not empty"),
    ({"connect_timeout": 0}, "config.connect_timeout must be a number of seconds above 0, at most 86400"),
    ({"connect_timeout": float("inf")}, "config.connect_timeout must be a number of seconds above 0, at most 86400"),
    ({"read_timeout": float("nan")}, "config.read_timeout must be a number of seconds above 0, at most 86400"),
    ({"read_timeout": "hunter2"}, "config.read_timeout must be a number of seconds above 0, at most 86400"),
    ({"read_timeout": True}, "config.read_timeout must be a number of seconds above 0, at most 86400"),
    ({"read_timeout": 10**400}, "config.read_timeout must be a number of seconds above 0, at most 86400"),
    ({"read_timeout": [5]}, "config.read_timeout must be a number of seconds above 0, at most 86400"),
    ({"max_pool_connections": 0}, "config.max_pool_connections must be a whole number from 1 to 10000"),
    ({"max_pool_connections": 1.5}, "config.max_pool_connections must be a whole number from 1 to 10000"),
    ({"parameter_validation": "hunter2"}, "config.parameter_validation must be true or false"),
    (
        {"proxies": {"https": ["hunter2"]}},
        'config.proxies must be a JSON object of URLs of HTTP proxies such as {"https": "http://proxy.example.com:3128"}',
    ),
    (
        {"proxies": {"https": "http://me:hunter2@proxy:port"}},
        'config.proxies must be a JSON object of URLs of HTTP proxies such as {"https": "http://proxy.example.com:3128"}',
    ),
    (
        {"proxies": {"https": "socks5://me:hunter2@proxy:1080"}},
        'config.proxies must be a JSON object of URLs of HTTP proxies such as {"https": "http://proxy.example.com:3128"}',
    ),
    (
        {"proxies": "http://me:hunter2@proxy"},
        'config.proxies must be a JSON object of URLs of HTTP proxies such as {"https": "http://proxy.example.com:3128"}',
    ),
    (
        {"proxies_config": {"proxy_client_cert": ["hunter2"]}},
        "config.proxies_config.proxy_client_cert must be the path of a file, or a list of two: certificate and key",
    ),
    (
        {"client_cert": {"hunter2": 1}},
        "config.client_cert must be the path of a file, or a list of two: certificate and key",
    ),
    (
        {"s3": {"addressing_style": "hunter2"}},
        "config.s3 must be a JSON object, its addressing_style one of auto, path, virtual",
    ),
    ({"s3": {"x": float("nan")}}, "config.s3 must be a JSON object, its addressing_style one of auto, path, virtual"),
    ({"endpoint_discovery_enabled": "hunter2"}, "config.endpoint_discovery_enabled must be true, false or auto"),
    (
        {"defaults_mode": "hunter2"},
        "config.defaults_mode must be one of legacy, standard, in-region, cross-region, mobile, auto",
    ),
    (
        {"request_min_compression_size_bytes": 0},
        "config.request_min_compression_size_bytes must be a whole number from 1 to 1048576",
    ),
    ({"client_context_params": [1]}, "config.client_context_params must be a JSON object"),
    (
        {"request_checksum_calculation": "hunter2"},
        "config.request_checksum_calculation must be one of when_supported, when_required",
    ),
    (
        {"account_id_endpoint_mode": "hunter2"},
        "config.account_id_endpoint_mode must be one of preferred, disabled, required",
    ),
]


def test_every_option_of_the_installed_botocore_is_known():
    installed = {*Config.OPTION_DEFAULTS, *getattr(Config, "NON_LEGACY_OPTION_DEFAULTS", {})}
    assert installed <= set(botocore_config.OPTIONS)
    assert set(ACCEPTED) == set(botocore_config.OPTIONS)


@pytest.mark.parametrize("name", ACCEPTED)
@pytest.mark.parametrize("write", [lambda raw: raw, json.dumps], ids=["value", "text"])
def test_an_option_is_read_as_a_value_and_as_the_text_of_an_environment_variable(name: str, write):
    raw, expected = ACCEPTED[name]
    assert Settings.from_kwargs({"config": write({name: raw})}).config == {name: expected}


def test_botocore_accepts_everything_that_is_accepted_here():
    # A name that only a newer botocore knows is refused when the first client is created.
    known = {name: read for name, (_, read) in ACCEPTED.items() if name in Config.OPTION_DEFAULTS}
    config = Config(**known)
    assert {name: getattr(config, name) for name in known} == known


@pytest.mark.parametrize(("config", "problem"), REFUSED)
def test_a_mistake_is_refused_by_its_path_and_without_its_value(config: dict[str, object], problem: str):
    with pytest.raises(SettingsError) as caught:
        Settings.from_kwargs({"config": config})
    assert caught.value.problems == (problem,)
    assert "hunter2" not in str(caught.value)


def test_all_mistakes_are_listed_at_once():
    with pytest.raises(SettingsError) as caught:
        Settings.from_kwargs({"config": {"nonsense": 1, "retries": {"mode": 1, "x": 1}, "read_timeout": 0}})
    assert [problem.split()[0].rstrip(":") for problem in caught.value.problems] == [
        "config.nonsense",
        "config.retries.mode",
        "config.retries.x",
        "config.read_timeout",
    ]


def test_none_means_not_set():
    assert Settings.from_kwargs({"config": {"retries": None, "read_timeout": 5}}).config == {"read_timeout": 5}


def test_the_options_are_checked_without_botocore(monkeypatch):
    monkeypatch.setitem(sys.modules, "botocore", None)
    for name, (raw, _) in ACCEPTED.items():
        botocore_config.parse({name: raw})
