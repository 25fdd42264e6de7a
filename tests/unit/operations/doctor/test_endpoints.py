"""What is said of endpoints that answer and that do not, and of the clock."""

from __future__ import annotations

import pytest

from redshift_secrets.aws.probing import Reached
from redshift_secrets.errors import AwsError
from redshift_secrets.operations.doctor.endpoints import clock_verdicts, endpoint_verdicts

TIMED_OUT = "no response in time from the endpoint."


def reached(service="redshift", region="eu-west-1", **changes):
    names = {"resourcegroupstaggingapi": "tagging"}
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    changes = {"addresses": ("52.1.2.3",), "url": f"https://{names.get(service, service)}.{region}.{suffix}", **changes}
    return Reached(service, region, **changes)


def silent(service="redshift", region="eu-west-1", code="TimedOut", reason=TIMED_OUT, **changes):
    error = AwsError("a request", "its endpoint", "me", code, reason, "Check the route to it.", True)
    return reached(service, region, error=error, **changes)


def said(*found, needs_sts=False):
    return [(each.status, each.message) for each in endpoint_verdicts(found, needs_sts=needs_sts)]


def test_what_answers_is_one_verdict_with_the_slowest_times():
    found = [reached(dns_seconds=0.002, seconds=0.03), reached("sts", dns_seconds=0.004, seconds=0.01)]
    assert said(*found) == [
        ("ok", "redshift, sts in eu-west-1 answer, within 30 ms, TCP and TLS included; DNS within 4 ms")
    ]


def test_a_proxy_is_named():
    ((status, message),) = said(reached(proxy="proxy.corp:3128", addresses=()))
    assert status == "ok"
    assert "through the proxy proxy.corp:3128" in message
    assert "DNS" not in message


@pytest.mark.parametrize(
    ("service", "region", "endpoint"),
    [
        ("redshift", "eu-west-1", "com.amazonaws.eu-west-1.redshift"),
        ("redshift-serverless", "eu-west-1", "com.amazonaws.eu-west-1.redshift-serverless"),
        ("secretsmanager", "us-east-1", "com.amazonaws.us-east-1.secretsmanager"),
        ("redshift", "cn-north-1", "cn.com.amazonaws.cn-north-1.redshift"),
    ],
)
def test_the_vpc_endpoint_that_is_missing_is_named(service, region, endpoint):
    ok, (status, message) = said(reached("sts", region), silent(service, region))
    assert ok[0] == "ok"
    assert status == "problem"
    assert f"give this network the interface VPC endpoint {endpoint} with private DNS" in message


def test_one_service_in_several_regions_is_one_verdict():
    _, (_, message) = said(reached("sts"), silent(), silent(region="us-east-1"))
    assert message.startswith("redshift in eu-west-1, redshift in us-east-1: no response")
    assert "com.amazonaws.eu-west-1.redshift, com.amazonaws.us-east-1.redshift" in message


def test_no_network_at_all_is_one_verdict():
    services = ("sts", "redshift", "redshift-serverless", "resourcegroupstaggingapi")
    ((status, message),) = said(*(silent(each) for each in services))
    assert status == "problem"
    for each in ("sts", "redshift", "redshift-serverless", "tagging"):
        assert f"com.amazonaws.eu-west-1.{each}" in message


def test_an_address_in_this_network_is_that_of_a_vpc_endpoint_that_lets_nobody_in():
    _, (status, message) = said(reached("sts"), silent(addresses=("10.0.1.7",)))
    assert status == "problem"
    assert (
        "let this host in on port 443 in the security group of the VPC endpoint com.amazonaws.eu-west-1.redshift"
        in message
    )


def test_dns_that_does_not_know_a_name():
    _, (_, message) = said(reached("sts"), silent(code="Unreachable", reason="DNS does not know it.", addresses=()))
    assert message.endswith("Check the region, and the DNS of this network.")


def test_dns_that_does_not_know_an_endpoint_of_fips_mode():
    fips = {"url": "https://redshift-fips.eu-west-1.amazonaws.com", "code": "Unreachable", "addresses": ()}
    _, (_, message) = said(reached("sts"), silent(reason="DNS does not know it.", **fips))
    assert "unset use_fips_endpoint, or name another endpoint" in message


@pytest.mark.parametrize("needs_sts", [False, True])
def test_what_lookups_can_do_without_is_a_warning(needs_sts):
    _, tagging, sts = said(reached(), silent("resourcegroupstaggingapi"), silent("sts"), needs_sts=needs_sts)
    assert tagging[0] == "warning"
    assert "listed one by one" in tagging[1]
    assert sts[0] == ("problem" if needs_sts else "warning")


def test_an_endpoint_of_the_sites_own_has_the_advice_of_its_error():
    ((_, message),) = said(
        silent(url="https://aws.corp", code="TlsFailed", reason="TLS with https://aws.corp failed."),
        silent("sts", url="https://aws.corp", code="TlsFailed", reason="TLS with https://aws.corp failed."),
    )
    assert (
        message == "redshift in eu-west-1, sts in eu-west-1: TLS with https://aws.corp failed. Check the route to it."
    )


@pytest.mark.parametrize(
    ("ahead", "status", "text"),
    [
        (0.4, "ok", "within 1 s of AWS"),
        (-20.0, "ok", "within 20 s of AWS"),
        (90.0, "warning", "90 s ahead of AWS"),
        (-400.0, "problem", "400 s behind AWS"),
        (400.0, "problem", "400 s ahead of AWS"),
    ],
)
def test_the_clock(ahead, status, text):
    (found,) = clock_verdicts([reached(ahead=ahead), reached(ahead=ahead), silent()])
    assert found.status == status
    assert found.message.startswith(text)
    assert ("NTP" in found.message) is (status != "ok")


def test_a_clock_without_anything_to_compare_it_with():
    (found,) = clock_verdicts([silent()])
    assert found.status == "unknown"
