"""The row about how often a lookup asks Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cryptography.fernet import Fernet

from bench import loopback, processes
from bench.figures import Effort, Line, NotMeasuredError
from bench.loopback import BACKEND
from bench.redis_server import redis_server

_MAX_ROUND_TRIPS = 2


def of_a_fleet_lookup(_effort: Effort) -> Sequence[Line]:
    """The host store is off, and another process has put everything into a real Redis on loopback. A new process looks up
    one conn_id, which connects it to Redis and tells it from STS who it is, and then another one, which is not in its
    memory. A proxy in front of Redis counts: a request that follows an answer is a round trip. The commands are those
    that the server counts (`INFO commandstats`). Once in 5 s a process also looks whether the fleet store was flushed,
    which is a round trip and a command more. These are counts, the same in every round, so there is one.
    """
    with (
        loopback.loopback([loopback.tagged("prod", "analytics"), loopback.tagged("other", "other")]) as site,
        redis_server() as url,
    ):
        environment = site.environment(site.new_host())
        request: dict[str, Any] = {"backend": BACKEND, "kwargs": {"regions": ["eu-west-1"]}, "redis_url": url}
        request |= {"key": Fernet.generate_key().decode(), "before": "other", "conn_id": "analytics"}
        processes.ask("fleet", request, environment)
        site.calls()
        report = processes.ask("fleet", request, environment)
        calls = {name: number for name, number in site.calls().items() if name != "sts:GetCallerIdentity"}
    if not report["answered"] or calls:
        raise NotMeasuredError(f"the fleet store was not warm: {calls}")
    return [
        Line(
            "round trips to Redis of a lookup in a warm fleet store, without a host store, after connecting",
            f"{report['round_trips']}",
            limit=f"{_MAX_ROUND_TRIPS}",
            met=0 < report["round_trips"] <= _MAX_ROUND_TRIPS,
        ),
        Line("- Redis commands of that lookup", f"{report['commands']}"),
    ]
