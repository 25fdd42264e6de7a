"""Rows about many task processes that start together."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.fernet import Fernet

from bench import loopback, machine, processes
from bench.figures import Effort, Line, NotMeasuredError, Spread, seconds, times
from bench.loopback import BACKEND, LISTINGS, MINT, Loopback
from bench.redis_server import redis_server

_CONN_ID = "analytics"
_REGIONS = ["eu-west-1", "us-east-1"]
_PROCESSES = 200
_HOSTS = 10
_SLACK_SECONDS = 2.0


@dataclass(frozen=True)
class _Crowd:
    """The result of one crowd: the time of the slowest process and the processor time of each, in seconds, the number of
    processes that got the connection, and the calls to AWS."""

    slowest: float
    cpu_seconds: tuple[float, ...]
    answered: int
    errors: tuple[str, ...]
    calls: dict[str, int]

    @property
    def mints(self) -> int:
        return self.calls.get(MINT, 0)

    @property
    def listings(self) -> tuple[int, ...]:
        """The number of calls that list, for each kind of warehouse."""
        return tuple(self.calls.get(call, 0) for call in LISTINGS)


def one_host(effort: Effort) -> Sequence[Line]:
    """A process that has loaded Airflow, with this backend as `[secrets] backend`, forks 200 children, as LocalExecutor
    does, which wait on a pipe. When all of them are ready the pipe is closed, and each child constructs its own backend
    and looks up `analytics` in two regions, on a host whose store does not exist yet. Times are from closing the pipe
    to the answer. "One process alone" is the same with a single child on another cold host; the two alternate. The
    simulated AWS runs on the same cores. The lines below show the parts: the processor time of all processes, which no
    scheduling can reduce, divided among the cores; the same crowd once more on a warm host, where no process waits for
    another; and 200 processes that only wake up and report. Listings are counted for each kind of warehouse (clusters,
    workgroups), where one call is one page.
    """
    with _site() as site:
        alone, together, warm, idle = [], [], [], []
        for _ in range(effort.rounds(5)):
            alone.append(_crowd(site, 1, [site.new_host()], {}))
            host = site.new_host()
            together.append(_crowd(site, _PROCESSES, [host], {}))
            warm.append(_crowd(site, _PROCESSES, [host], {}))
            idle.append(_crowd(site, _PROCESSES, [host], None))
    cores = machine.cores()
    return [
        _slowest(alone, together),
        Line(
            f"- processor time of all of them on {cores} cores",
            own=Spread.of([sum(crowd.cpu_seconds) / cores for crowd in together]).show(seconds),
            peer=Spread.of([sum(crowd.cpu_seconds) / cores for crowd in alone]).show(seconds),
        ),
        Line("- the slowest when the host is warm", _of_slowest(warm).show(seconds)),
        Line("- the slowest when they look up nothing", _of_slowest(idle).show(seconds)),
        *_counts(f"{_PROCESSES} processes started together on a cold host", together),
    ]


def one_fleet(effort: Effort) -> Sequence[Line]:
    """As above, with the 200 children spread over ten hosts: each host has a separate host store, and all of them share
    one Redis (a real server on loopback, empty at the start of each round).
    """
    with _site() as site:
        crowds = []
        for _ in range(effort.rounds(3)):
            hosts = [site.new_host() for _ in range(_HOSTS)]
            with redis_server() as url:
                cache = {"redis_url": url, "key": Fernet.generate_key().decode()}
                crowds.append(_crowd(site, _PROCESSES, hosts, {"cache": cache}))
    work = f"{_HOSTS} hosts of {_PROCESSES // _HOSTS} processes each, cold, one Redis"
    return [*_counts(work, crowds), Line("- the slowest of them", _of_slowest(crowds).show(seconds))]


@contextlib.contextmanager
def _site() -> Iterator[Loopback]:
    with loopback.loopback([loopback.tagged("prod", _CONN_ID)]) as site:
        # Compile modules and write Airflow's configuration before the first round.
        _crowd(site, 1, [site.new_host()], {})
        yield site


def _crowd(
    site: Loopback, size: int, hosts: Sequence[dict[str, str]], settings: Mapping[str, Any] | None = None
) -> _Crowd:
    """Run a crowd that looks up with these settings, or with `None` does not look up at all."""
    site.calls()
    kwargs = {"regions": _REGIONS, **(settings or {})}
    configured = {"AIRFLOW__SECRETS__BACKEND": BACKEND, "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(kwargs)}
    request: dict[str, Any] = {"processes": size, "hosts": hosts}
    if settings is not None:
        request |= {"backend": BACKEND, "kwargs": kwargs, "conn_id": _CONN_ID}
    report = processes.ask("crowd", request, site.environment(hosts[0], configured))
    if any(error.startswith("SettingsError") for error in report["errors"]):
        raise NotMeasuredError(" ".join(report["errors"][0].split()))
    if len(report["seconds"]) != size:
        raise NotMeasuredError(f"only {len(report['seconds'])} of {size} processes reported")
    return _Crowd(
        max(report["seconds"]), tuple(report["cpu_seconds"]), report["answered"], tuple(report["errors"]), site.calls()
    )


def _of_slowest(crowds: Sequence[_Crowd]) -> Spread:
    return Spread.of([crowd.slowest for crowd in crowds])


def _slowest(alone: Sequence[_Crowd], together: Sequence[_Crowd]) -> Line:
    crowd, single = _of_slowest(together), _of_slowest(alone)
    return Line(
        f"{_PROCESSES} processes started together on a cold host: the slowest, against one process alone",
        own=crowd.show(seconds),
        peer=single.show(seconds),
        ratio=times(crowd.median / single.median),
        limit=f"{times(2)} + {seconds(_SLACK_SECONDS)}",
        met=crowd.median <= 2 * single.median + _SLACK_SECONDS,
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
    return [*lines, *(Line("- an error of the others", " ".join(error.split())[:160]) for error in errors[:1])]
