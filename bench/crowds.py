"""Rows about many task processes that start together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.fernet import Fernet

from bench import loopback, processes
from bench.figures import Effort, Line, NotMeasuredError, Spread, seconds, times
from bench.loopback import LISTINGS, MINT, OURS, Loopback
from bench.redis_server import redis_server

_CONN_ID = "analytics"
_REGIONS = ["eu-west-1", "us-east-1"]
_PROCESSES = 200
_HOSTS = 10
_SLACK_SECONDS = 2.0


@dataclass(frozen=True)
class _Crowd:
    """What came of one crowd: how long the slowest took in seconds, how many were answered, and the calls to AWS."""

    slowest: float
    answered: int
    errors: tuple[str, ...]
    calls: dict[str, int]

    @property
    def mints(self) -> int:
        return self.calls.get(MINT, 0)

    @property
    def listings(self) -> tuple[int, ...]:
        """Calls that list, for each kind of warehouse."""
        return tuple(self.calls.get(call, 0) for call in LISTINGS)


def one_host(effort: Effort) -> Sequence[Line]:
    """A process that has loaded Airflow and our module forks 200 children, as LocalExecutor does, which wait at a pipe. When
    all have said that they are there the pipe is closed, and each constructs the backend and looks `analytics` up in
    two regions, on a host whose store does not exist yet. Times are from closing the pipe to the answer. "One process alone"
    is the same with a single child on another cold host; the two take turns. The AWS that answers runs on the same cores.
    Listings are counted for each kind of warehouse (clusters, workgroups), where one call is one page.
    """
    with _site() as site:
        alone, together = [], []
        for _ in range(effort.rounds(5)):
            alone.append(_crowd(site, 1, [site.new_host()], {}))
            together.append(_crowd(site, _PROCESSES, [site.new_host()], {}))
    return [_slowest(alone, together), *_counts(f"{_PROCESSES} processes started together on a cold host", together)]


def one_fleet(effort: Effort) -> Sequence[Line]:
    """As above, with the 200 children spread over ten hosts: each host is a runtime folder of its own, so that none sees the
    store of another, and all share one Redis (a real server on loopback, empty at the start of each round).
    """
    with _site() as site:
        crowds = []
        for _ in range(effort.rounds(3)):
            hosts = [site.new_host() for _ in range(_HOSTS)]
            with redis_server() as url:
                cache = {"redis_url": url, "key": Fernet.generate_key().decode()}
                crowds.append(_crowd(site, _PROCESSES, hosts, {"cache": cache}))
    work = f"{_HOSTS} hosts of {_PROCESSES // _HOSTS} processes each, cold, one Redis"
    slowest = Spread.of([crowd.slowest for crowd in crowds])
    return [*_counts(work, crowds), Line("- the slowest of them", slowest.show(seconds))]


@contextlib.contextmanager
def _site() -> Iterator[Loopback]:
    with loopback.loopback([loopback.tagged("prod", _CONN_ID)]) as site:
        # So that no round pays for what only the first one finds missing: compiled modules, Airflow's configuration.
        _crowd(site, 1, [site.new_host()], {})
        yield site


def _crowd(site: Loopback, size: int, hosts: Sequence[dict[str, str]], settings: dict[str, Any]) -> _Crowd:
    site.calls()
    request = {
        "backend": OURS,
        "kwargs": {"regions": _REGIONS, **settings},
        "conn_id": _CONN_ID,
        "processes": size,
        "hosts": hosts,
    }
    report = processes.ask("crowd", request, site.environment(hosts[0]))
    if any(error.startswith("SettingsError") for error in report["errors"]):
        raise NotMeasuredError(" ".join(report["errors"][0].split()))
    if len(report["seconds"]) != size:
        raise NotMeasuredError(f"only {len(report['seconds'])} of {size} processes reported")
    return _Crowd(max(report["seconds"]), report["answered"], tuple(report["errors"]), site.calls())


def _slowest(alone: Sequence[_Crowd], together: Sequence[_Crowd]) -> Line:
    ours, peer = (Spread.of([crowd.slowest for crowd in crowds]) for crowds in (together, alone))
    return Line(
        f"{_PROCESSES} processes started together on a cold host: the slowest, against one process alone",
        ours=ours.show(seconds),
        peer=peer.show(seconds),
        ratio=times(ours.median / peer.median),
        limit=f"{times(2)} + {seconds(_SLACK_SECONDS)}",
        met=ours.median <= 2 * peer.median + _SLACK_SECONDS,
    )


def _counts(work: str, crowds: Sequence[_Crowd]) -> list[Line]:
    # The worst round counts: a second mint in one of five is one too many.
    mints, answered = max(crowd.mints for crowd in crowds), min(crowd.answered for crowd in crowds)
    lines = [Line(f"{work}: mints", f"{mints}", limit="1", met=mints == 1)]
    for number, kind in enumerate(LISTINGS.values()):
        listings = max(crowd.listings[number] for crowd in crowds)
        limit = len(_REGIONS)
        lines.append(
            Line(f"- listings of {kind} in {limit} regions", f"{listings}", limit=f"{limit}", met=listings == limit)
        )
    lines.append(
        Line("- processes that got the connection", f"{answered}", limit=f"{_PROCESSES}", met=answered == _PROCESSES)
    )
    errors = sorted({error for crowd in crowds for error in crowd.errors})
    return [*lines, *(Line("- an error of those that did not", " ".join(error.split())[:160]) for error in errors[:1])]
