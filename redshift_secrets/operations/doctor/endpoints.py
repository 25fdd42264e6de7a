"""Whether the endpoints of AWS are reached, which VPC endpoint is missing where not, and the clock against theirs."""

from __future__ import annotations

import ipaddress
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from redshift_secrets.operations.doctor.verdicts import Verdict, names, verdict

if TYPE_CHECKING:
    from redshift_secrets.aws.probing import Reached

_VPC_ENDPOINTS = {
    "redshift": "redshift",
    "redshift-serverless": "redshift-serverless",
    "resourcegroupstaggingapi": "tagging",
    "secretsmanager": "secretsmanager",
    "sts": "sts",
}
"""https://docs.aws.amazon.com/vpc/latest/privatelink/aws-services-privatelink-support.html, by boto3's name of the service."""
_DISPENSABLE = {
    "resourcegroupstaggingapi": "the tags of workgroups are listed one by one, which costs a call for each and needs"
    " redshift-serverless:ListTagsForResource",
    "sts": "no role can be assumed, and the fleet store is not used",
}
"""What happens without a service that lookups can do without, where they need none of that."""
_SLIGHTLY_SECONDS, _REFUSED_SECONDS = 60.0, 240.0
"""AWS refuses what was signed five minutes ago: https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html"""


def endpoint_verdicts(found: Sequence[Reached], *, needs_sts: bool) -> list[Verdict]:
    """Say which endpoints answer and how fast, and what to do about each that does not."""
    reached = [each for each in found if each.error is None]
    verdicts = []
    if reached:
        regions = {each.region for each in reached}
        said = f"{names(sorted({each.service for each in reached}))} in {names(sorted(regions))} answer"
        times = f"within {_ms(max(each.seconds for each in reached))}, TCP and TLS included"
        if any(each.proxy is None for each in reached):
            times += f"; DNS within {_ms(max(each.dns_seconds for each in reached))}"
        proxies = sorted({each.proxy for each in reached if each.proxy})
        by = f", through the proxy {names(proxies)}" if proxies else ""
        verdicts.append(verdict("endpoints", "ok", f"{said}{by}, {times}", (each.url for each in reached)))
    groups: dict[tuple[str, str], list[Reached]] = {}
    for each in found:
        if each.error is not None:
            # Where nothing answers, there is one cause; else a service may lack its VPC endpoint, in all regions alike.
            what = (each.service if reached else "") if _of_aws(each) else each.url
            groups.setdefault((each.error.code, what), []).append(each)
    return verdicts + [_failure(same, needs_sts) for same in groups.values()]


def clock_verdicts(found: Sequence[Reached]) -> list[Verdict]:
    """Compare the clock of this host with the time in the answers."""
    measured = [each.ahead for each in found if each.ahead is not None]
    if not measured:
        return [verdict("clock", "unknown", "no answer of AWS has a time to compare the clock of this host with")]
    ahead = statistics.median(measured)
    apart = abs(ahead)
    if apart <= _SLIGHTLY_SECONDS:
        return [verdict("clock", "ok", f"within {max(1, round(apart))} s of AWS")]
    side = f"{apart:.0f} s {'ahead of' if ahead > 0 else 'behind'} AWS"
    advice = "Synchronize it with NTP or the Amazon Time Sync Service"
    if apart < _REFUSED_SECONDS:
        return [verdict("clock", "warning", f"{side}, which refuses calls from 5 minutes on. {advice}")]
    return [verdict("clock", "problem", f"{side}, which refuses calls from 5 minutes on. {advice}")]


def _failure(same: Sequence[Reached], needs_sts: bool) -> Verdict:
    first = same[0]
    assert first.error is not None
    where = [f"{each.service} in {each.region}" for each in same]
    reason = first.error.reason.rstrip(".")
    advice = (
        _missing(same) if _of_aws(first) and first.error.code in ("TimedOut", "Unreachable") else first.error.advice
    )
    said = f"{names(where)}: {reason}. {advice}"
    dispensable = {each.service for each in same} <= {*_DISPENSABLE} - ({"sts"} if needs_sts else set())
    if dispensable:
        said += f" Without it, {_DISPENSABLE[first.service]}"
    return verdict("endpoints", "warning" if dispensable else "problem", said, where)


def _missing(same: Sequence[Reached]) -> str:
    first = same[0]
    if not first.addresses and first.proxy is None:
        from redshift_secrets.aws.network_errors import about_modes  # with boto3, which the client has loaded

        return f"{about_modes(first.url)}Check the region, and the DNS of this network."
    vpc_endpoints = ", ".join(dict.fromkeys(map(_vpc_endpoint, same)))
    if first.addresses and all(_is_private(each) for each in first.addresses):
        return (
            f"Its name leads to {names(first.addresses)} in this network: let this host in on port 443 in the security group of the VPC"
            f" endpoint {vpc_endpoints}, or look for whatever else has that address."
        )
    return (
        f"There is no route to the Internet from here, or something blocks it: give this network the interface VPC endpoint"
        f" {vpc_endpoints} with private DNS, or a NAT gateway, or a proxy (HTTPS_PROXY)."
    )


def _vpc_endpoint(found: Reached) -> str:
    begin = "cn.com.amazonaws" if found.region.startswith("cn-") else "com.amazonaws"
    return f"{begin}.{found.region}.{_VPC_ENDPOINTS.get(found.service, found.service)}"


def _of_aws(found: Reached) -> bool:
    host = str(urlsplit(found.url).hostname)
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))


def _is_private(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_private


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.0005 else "1 ms"
