"""The row about a site with very many warehouses."""

from __future__ import annotations

from collections.abc import Sequence

from bench import loopback, processes
from bench.figures import Effort, Line, NotMeasuredError, Spread
from bench.loopback import BACKEND, LISTINGS, Loopback
from bench.new_process import BIG_REGIONS, many_clusters

_LIMIT_CALLS = 104
_LIMIT_MIB = 5.0


def ten_thousand_clusters(effort: Effort) -> Sequence[Line]:
    """10,000 clusters with one conn_id each, 2,500 in each of four regions, and for comparison one cluster in a fifth
    region. On a cold host one new process looks up one of them; the calls that list (`DescribeClusters`, and
    `GetResources` for workgroups) are counted, the mint is not. Then, on that host, further new processes look up the
    same one, each after `import airflow.configuration`, and read their resident memory (`VmRSS`) after the answer;
    processes on a host with one cluster alternate with them, and the difference is the figure. The last line is that
    difference for the processes that started on a cold host and did the listing.
    """
    small_region = "ap-south-1"
    clusters = [*many_clusters(2_500, BIG_REGIONS), loopback.tagged("only", "only", small_region)]
    with loopback.loopback(clusters) as site:
        big, small = site.new_host(), site.new_host()
        cold_small = _resident(site, small, [small_region], "only")
        site.calls()
        cold_big = _resident(site, big, BIG_REGIONS, f"{BIG_REGIONS[2]}-7")
        calls = site.calls()
        pairs = [
            (
                _resident(site, big, BIG_REGIONS, f"{BIG_REGIONS[2]}-7"),
                _resident(site, small, [small_region], "only"),
            )
            for _ in range(effort.rounds(5))
        ]
    listing = sum(calls.get(call, 0) for call in LISTINGS)
    growth = Spread.of([a - b for a, b in pairs])
    return [
        Line(
            "10,000 tagged clusters in 4 regions: calls to list them",
            f"{listing}",
            limit=f"{_LIMIT_CALLS}",
            met=0 < listing <= _LIMIT_CALLS,
        ),
        Line(
            "- resident memory of a task process that looks one up, against one cluster",
            Spread.of([a for a, _ in pairs]).show(_mib),
            Spread.of([b for _, b in pairs]).show(_mib),
            f"{growth.show(_mib)} more",
            f"{_mib(_LIMIT_MIB)} more",
            growth.median <= _LIMIT_MIB,
        ),
        Line(
            "- the same for the one process that lists",
            _mib(cold_big),
            _mib(cold_small),
            f"{_mib(cold_big - cold_small)} more",
        ),
    ]


def _resident(site: Loopback, host: dict[str, str], regions: Sequence[str], conn_id: str) -> float:
    """Look up in a new process and return its resident memory in MiB."""
    # The simulated AWS shares the cores with the process that lists; its speed over a hundred pages is not measured.
    kwargs = {"regions": regions, "aws_timeout_seconds": 120}
    request = {"backend": BACKEND, "kwargs": kwargs, "conn_id": conn_id}
    report = processes.ask("lookup", request, site.environment(host))
    if not report["answered"]:
        raise NotMeasuredError(f"the backend did not answer for {conn_id}")
    if not report["resident_kib"]:
        raise NotMeasuredError("this system does not report the resident memory of a process")
    return float(report["resident_kib"]) / 1024


def _mib(value: float) -> str:
    return f"{value:.1f} MiB"
