"""Rows about processes that serve others beside the lookups: API server and triggerer."""

from __future__ import annotations

import math
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from bench import loopback, processes
from bench.figures import Effort, Line, NotMeasuredError, Spread, paired, seconds
from bench.loopback import BACKEND, MINT, Loopback
from redshift_secrets.local.aws.arns import warehouse_arn

_PEER = "airflow.secrets.environment_variables.EnvironmentVariablesBackend"
_LOOKUPS = 200
_OTHERS, _INTERVAL_SECONDS = 200, 0.005
_CONCURRENT, _CONN_IDS = 2_000, 50
_LIMIT = 2.0
_WARM = "warm"
_PAGE, _VIEWERS = "/redshift-connections", 8
_PAGE_CLUSTERS, _PAGE_CONN_IDS = 100, 10
_SAME_ORIGIN = {"X-Redshift-Connections": "1", "Sec-Fetch-Site": "same-origin"}

_Request = tuple[str, str, Mapping[str, str], str]
"""A method, a path, headers and a body."""


def api_server(effort: Effort) -> Sequence[Line]:
    """A real uvicorn in a child process serves a FastAPI app. Its routes are synchronous, as those of Airflow's Execution API,
    and so share forty threads: one returns a connection from this backend, another one nothing. The server has answered
    for one conn_id, so that the catalog is known and boto3 loaded, when AWS becomes a black hole: it accepts requests to
    mint and does not answer. Another child process then asks for 200 other conn_ids at once, and from that moment on for
    the other route every 5 ms for a second, each time on a connection that is open already; it measures how long the
    answer takes from the moment at which the request was due. The peer is the same with 200 environment variables and
    Airflow's `EnvironmentVariablesBackend`. The figures are the 99th percentiles of each round; the servers of both sides
    alternate, each of them a new process on a cold host.

    The second comparison is that of a server that has not looked anything up, so that it has neither a catalog nor boto3 when
    everything of AWS is a black hole; `managed_conn_ids` is set, so that conn_ids are refused then.
    """
    conn_ids = [f"conn_{number}" for number in range(_LOOKUPS)]
    clusters = [loopback.tagged(f"c{number}", conn_id) for number, conn_id in enumerate([_WARM, *conn_ids])]
    own, peer, cold, refused = [], [], [], 0
    with loopback.loopback(clusters) as site:
        settings = {"regions": ["eu-west-1"]}
        for _ in range(effort.rounds(7)):
            statuses, delay = _serve(site, BACKEND, settings, conn_ids, MINT)
            own.append(delay)
            refused += statuses.get("403", 0)
            peer.append(_serve(site, _PEER, {}, conn_ids)[1])
            cold.append(_serve(site, BACKEND, {**settings, "managed_conn_ids": "conn_"}, conn_ids, "*")[1])
    return [
        paired(
            f"{_LOOKUPS} lookups at once in an API server with AWS in a black hole: p99 of another route, against"
            " `EnvironmentVariablesBackend`",
            own,
            peer,
            limit=_LIMIT,
        ),
        Line("- lookups of each round that were refused within the second", f"{refused / len(own):g}"),
        paired("- the same in a server that has looked nothing up", cold, peer, limit=None),
    ]


def page(effort: Effort) -> Sequence[Line]:
    """The same server, with the page of this package mounted as Airflow mounts it, for an administrator: who is signed in is taken
    for granted, since Airflow looks that up in its metadata database. 1,000 connections are listed, and one viewer has had the
    page, its table and a row before AWS becomes a black hole, for every call. Then 8 viewers each load these three, and press Refresh
    and Test, one of these requests every 25 ms for a second; meanwhile, the other route is asked for as in the row before. The
    peer is the same with an AWS that answers. The second comparison is that with a server whose page nobody looks at: what
    viewers cost is the work of their requests, which waits for one interpreter with that of all others.
    """
    conn_ids = [" ".join(f"conn_{one}_{other}" for other in range(_PAGE_CONN_IDS)) for one in range(_PAGE_CLUSTERS)]
    clusters = [loopback.tagged(f"c{number}", each) for number, each in enumerate(conn_ids)]
    claim = urlencode({"conn_id": conn_ids[0].split()[0], "warehouse": warehouse_arn(clusters[0])})
    looks = [f"{_PAGE}/", f"{_PAGE}/table", f"{_PAGE}/connection?open=1&{claim}"]
    presses: list[_Request] = [
        ("POST", f"{_PAGE}/refresh", _SAME_ORIGIN, ""),
        ("POST", f"{_PAGE}/test", _SAME_ORIGIN, claim),
    ]
    viewers = [*map(_get, looks), *presses] * _VIEWERS
    request = {"backend": BACKEND, "kwargs": {"regions": ["eu-west-1"]}, "page": _PAGE}
    own: list[float] = []
    answered: list[float] = []
    alone: list[float] = []
    with loopback.loopback(clusters) as site:
        for _ in range(effort.rounds(7)):
            for figures, crowd, black_hole in ((own, viewers, "*"), (answered, viewers, None), (alone, [], None)):
                every = _OTHERS * _INTERVAL_SECONDS / len(viewers)
                figures.append(_load(site, request, looks, crowd, black_hole=black_hole, crowd_interval=every)[1])
    return [
        paired(
            f"{_VIEWERS} viewers of the page in Airflow with AWS in a black hole: p99 of another route, against an AWS that answers",
            own,
            answered,
            limit=_LIMIT,
        ),
        paired("- against nobody who looks at it", own, alone, limit=None),
    ]


def triggerer(effort: Effort) -> Sequence[Line]:
    """On a warm host, a new process makes 2,000 concurrent calls of `aget_connection`, 40 for each of 50 conn_ids, after one
    for another conn_id, which creates what lookups need. Meanwhile a coroutine sleeps for 1 ms again and again; the
    longest time by which it wakes too late is the loop's longest stall. "Without" means the peer: Airflow's
    `EnvironmentVariablesBackend`, with the same connections as JSON in variables and 2,000 concurrent calls of
    `get_connection` through `asyncio.to_thread`, which is how Airflow calls a backend that has no `aget_connection`.
    Processes of both sides alternate. The next line is the time until all 2,000 are answered; the last one is the longest
    stall in a second in which nothing is looked up, in the same kind of process.
    """
    conn_ids = [f"conn_{number}" for number in range(_CONN_IDS)]
    clusters = [loopback.tagged(f"c{number}", conn_id) for number, conn_id in enumerate([_WARM, *conn_ids])]
    with loopback.loopback(clusters) as site:
        environment = site.environment(site.new_host(), loopback.typed_in([_WARM, *conn_ids]))
        own: dict[str, Any] = {"backend": BACKEND, "kwargs": {"regions": ["eu-west-1"]}, "before": _WARM}
        processes.ask("triggerer", {**own, "conn_ids": conn_ids}, environment)
        own["conn_ids"] = conn_ids * (_CONCURRENT // _CONN_IDS)
        sides: dict[str, dict[str, Any]] = {
            "own": own,
            "peer": {**own, "backend": _PEER, "kwargs": {}},
            "nothing": {},
        }
        reports: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for _ in range(effort.rounds(9)):
            for side, request in sides.items():
                reports[side].append(processes.ask("triggerer", request, environment))
    stalls = {side: [report["longest"] for report in reports[side]] for side in sides}
    durations = {side: [report["seconds"] for report in reports[side]] for side in sides}
    return [
        paired(
            f"{_CONCURRENT:,} concurrent lookups in a triggerer: the loop's longest stall, against"
            " `EnvironmentVariablesBackend` in threads",
            stalls["own"],
            stalls["peer"],
            limit=_LIMIT,
        ),
        paired("- until all of them are answered", durations["own"], durations["peer"], limit=None),
        Line("- the longest stall when nothing is looked up", Spread.of(stalls["nothing"]).show(seconds)),
    ]


def _serve(
    site: Loopback, backend: str, kwargs: Mapping[str, Any], conn_ids: Sequence[str], black_hole: str | None = None
) -> tuple[dict[str, int], float]:
    """Ask a new server for all conn_ids at once, while calls of the operation `black_hole` are not answered; return its
    answers by status, and the 99th percentile of the seconds that the other route took."""
    typed_in = loopback.typed_in([_WARM, *conn_ids])
    warm = "/other" if black_hole == "*" else f"/connections/{_WARM}"
    at_once = [_get(f"/connections/{conn_id}") for conn_id in conn_ids]
    request = {"backend": backend, "kwargs": kwargs}
    statuses, delay = _load(site, request, [warm], at_once, black_hole=black_hole, environment=typed_in)
    if black_hole is not None and statuses.get("200", 0):
        raise NotMeasuredError("AWS answered out of the black hole")
    if black_hole is None and statuses != {"200": len(conn_ids)}:
        raise NotMeasuredError(f"the peer did not answer for all: {statuses}")
    return statuses, delay


def _load(
    site: Loopback,
    server_request: Mapping[str, Any],
    warm: Sequence[str],
    crowd: Sequence[_Request],
    *,
    black_hole: str | None,
    crowd_interval: float = 0.0,
    environment: Mapping[str, str] | None = None,
) -> tuple[dict[str, int], float]:
    """Start a server on a cold host, get the paths `warm`, and make the requests of a crowd, one every `crowd_interval` seconds, while calls
    of the operation `black_hole` are not answered. Return their answers by status, and the 99th percentile of the seconds
    that the other route took meanwhile."""
    variables = site.environment(site.new_host(), dict(environment or {}))
    with processes.serving("api_server", server_request, variables) as server:
        for path in warm:
            with urllib.request.urlopen(f"http://127.0.0.1:{server['port']}{path}") as answer:
                answer.read()
        load = {"crowd": crowd, "crowd_interval": crowd_interval, "path": "/other", "times": _OTHERS}
        if black_hole is not None:
            site.aws.faults.add(black_hole, "black_hole")
        try:
            report = processes.ask("http_load", {**load, "interval": _INTERVAL_SECONDS, **server}, variables)
        finally:
            site.aws.faults.clear()
    return report["statuses"], sorted(report["seconds"])[math.ceil(0.99 * _OTHERS) - 1]


def _get(path: str) -> _Request:
    return "GET", path, {}, ""
