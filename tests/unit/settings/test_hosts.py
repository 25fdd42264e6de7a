"""The setting `hosts`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from redshift_secrets.errors import SettingsError
from redshift_secrets.settings import Settings
from redshift_secrets.settings.records import Host

ARN = "arn:aws-us-gov:redshift:us-gov-west-1:123456789012:cluster:prod"
WORKGROUP = "arn:aws:redshift-serverless:eu-west-1:123456789012:workgroup/3f2b1c9e-0001-4d5e-8f00-0123456789ab"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("prod", "nlb.corp", Host("nlb.corp")),
        ("prod", " nlb.corp:5440 ", Host("nlb.corp", 5440)),
        ("prod", "10.0.0.7", Host("10.0.0.7")),
        ("prod", "nlb_1.büro.हिन्दी", Host("nlb_1.büro.हिन्दी")),
        ("prod", "[fd00::7]:5440", Host("fd00::7", 5440)),
        ("prod", {"host": "fd00::7"}, Host("fd00::7")),
        ("prod", {"host": "[fd00::7]", "port": 5440}, Host("fd00::7", 5440)),
        (ARN, {"host": "nlb.corp"}, Host("nlb.corp")),
        (WORKGROUP, {"host": "nlb.corp", "port": "5440", "sslmode": "verify-ca"}, Host("nlb.corp", 5440, "verify-ca")),
        ("prod", {"host": "nlb.corp", "port": None, "sslmode": None}, Host("nlb.corp")),
    ],
)
def test_a_warehouse_has_a_host_and_may_have_a_port_and_an_sslmode(name: str, value: Any, expected: Host) -> None:
    for raw in ({name: value}, json.dumps({name: value})):
        assert Settings.from_kwargs({"hosts": raw}).hosts == {name: expected}


@pytest.mark.parametrize(
    ("hosts", "message"),
    [
        ("nlb.corp", "hosts must be JSON, which it is not"),
        (
            {"Prod cluster": "nlb.corp"},
            "hosts.Prod cluster must be the identifier or the ARN of a cluster or workgroup",
        ),
        ({"arn:aws:s3:::bucket": "nlb.corp"}, "must be the identifier or the ARN"),
        ({"prod": ""}, "hosts.prod must be a host, with or without a port"),
        ({"prod": ":5440"}, "hosts.prod must be a host, with or without a port"),
        ({"prod": None}, "hosts.prod must be a host, with or without a port"),
        ({"prod": {"port": 5440}}, "hosts.prod must be a host, with or without a port"),
        ({"prod": "a b"}, "hosts.prod has a host that is neither a host name nor an IP address"),
        ({"prod": "a.corp,b.corp"}, "hosts.prod has a host that is neither a host name nor an IP address"),
        ({"prod": {"host": "nlb.corp,b"}}, "hosts.prod.host has a host that is neither a host name nor an IP address"),
        ({"prod": {"host": "nlb.corp' x"}}, "hosts.prod.host has a host that is neither a host name nor an IP address"),
        ({"prod": "$(hostname)"}, "hosts.prod has a host that is neither a host name nor an IP address"),
        ({"prod": "nlb\u200b.corp"}, "hosts.prod has a host that is neither a host name nor an IP address"),
        ({"prod": "fd00::7"}, "hosts.prod has an IPv6 address: put it in brackets, as in [2001:db8::5]:5439"),
        ({"prod": "fd00::7:5440"}, "hosts.prod has an IPv6 address: put it in brackets"),
        ({"prod": {"host": "a:b:c"}}, "hosts.prod.host has a host that is neither a host name nor an IP address"),
        ({"prod": "https://nlb.corp"}, "hosts.prod must be a host, with or without a port"),
        ({"prod": "me@nlb.corp"}, "hosts.prod must be a host, with or without a port"),
        ({"prod": {"host": "https://nlb.corp"}}, "hosts.prod.host must be a host name or an IP address alone"),
        ({"prod": "nlb.corp:0"}, "hosts.prod has a port that is not a number from 1 to 65535"),
        ({"prod": {"host": "nlb.corp:5440"}}, "hosts.prod.host must be a host name or an IP address alone"),
        ({"prod": {"host": "nlb.corp", "port": 65536}}, "hosts.prod.port must be a number from 1 to 65535"),
        ({"prod": {"host": "nlb.corp", "port": True}}, "hosts.prod.port must be a number from 1 to 65535"),
        ({"prod": {"host": "nlb.corp", "sslmode": "off"}}, "hosts.prod.sslmode must be one of verify-full"),
        ({"prod": {"host": "nlb.corp", "ssl": True}}, "hosts.prod.ssl: unknown setting"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(hosts: Any, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_kwargs({"hosts": hosts})
    (problem,) = caught.value.problems
    assert message in problem


@pytest.mark.parametrize(
    "others",
    [
        {"regions": ["eu-west-1", "us-east-1"]},
        {"accounts": [{"role_arn": "arn:aws:iam::210987654321:role/airflow"}]},
    ],
)
def test_a_name_that_several_warehouses_may_have_needs_the_arn(others: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="hosts names prod without its ARN: in another region or account another"):
        Settings.from_kwargs({"hosts": {"prod": "nlb.corp", ARN: "nlb.corp"}, **others})
    assert Settings.from_kwargs({"hosts": {ARN: "nlb.corp"}, **others}).hosts
