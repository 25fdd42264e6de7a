"""The metrics that a StatsD server and an OpenTelemetry collector receive."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from redshift_secrets.local.stand_in import StandIn
from tests.e2e.conftest import MINT_WITH_IAM
from tests.support.host_store import HOST_STORE

pytestmark = pytest.mark.airflow

WAREHOUSES = {
    "clusters": [
        {
            "identifier": "prod",
            "tags": {
                "airflow:conn-id": "analytics denied",
                "airflow:db-user/analytics": "etl",
                "airflow:auth/denied": "iam",
            },
        }
    ]
}

# What the process of a task and that of the API server import at their start; each has its own Stats.
STARTS = {
    "task": ("airflow.sdk._shared.observability.metrics", "airflow.sdk.observability.metrics"),
    "server": ("airflow._shared.observability.metrics", "airflow.observability.metrics"),
}
PROCESS = """
import importlib, sys
from airflow.configuration import conf
from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.lookup import wiring

shared, own = {start!r}
try:
    stats = importlib.import_module(shared + ".stats")
    utils = importlib.import_module(own + ".stats_utils")
    if hasattr(stats, "initialize"):
        stats.initialize(factory=utils.get_stats_factory(), export_legacy_names=True)
    else:  # Airflow 3.2
        stats.Stats.initialize(factory=utils.get_stats_factory(stats.Stats))
except ImportError:
    pass  # older ones initialise Stats themselves

for _ in range(2):
    wiring._brokers.clear()  # as in a new process
    backend = RedshiftSecretsBackend(regions="eu-west-1", aws_timeout_seconds=300, cache={cache!r})
    for conn_id in ("analytics", "analytics", "nobody"):
        backend.get_connection(conn_id)
try:
    backend.get_connection("denied").host
except Exception as error:
    assert "cannot be served" in str(error), error
if {flush}:
    from opentelemetry import metrics
    metrics.get_meter_provider().force_flush()
"""
COUNTS = {
    "lookups.found.aws": 1,
    "lookups.found.host": 1,
    "lookups.found.process": 2,
    "lookups.missed.host": 1,
    "lookups.missed.process": 1,
    "lookups.refused.aws": 1,
    "mints": 1,
    "mint_failures.AccessDenied": 1,
    "catalog_refreshes": 2,  # clusters and Serverless workgroups
}


@pytest.fixture(autouse=True)
def denied_mint(stand_in: StandIn) -> None:
    stand_in.aws.faults.add(operation=MINT_WITH_IAM, kind="access_denied")


@pytest.fixture
def process(stand_in: StandIn):
    def run(start: str, *, flush: bool = False, **metrics: str) -> None:
        settings = {f"AIRFLOW__METRICS__{name.upper()}": value for name, value in metrics.items()}
        environment = {**os.environ, **settings, "PYTHONPATH": os.pathsep.join(sys.path)}
        script = PROCESS.format(start=STARTS[start], flush=flush, cache={"path": os.environ[HOST_STORE]})
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture
def statsd() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        yield server


def received(server: socket.socket) -> list[tuple[str, str, str]]:
    """Return name, value and kind of each metric of this package. Loopback delivers before `send` returns."""
    lines = []
    while True:
        try:
            lines += server.recv(65536).decode().splitlines()
        except BlockingIOError:
            break
    prefix = "airflow.redshift_secrets."
    found = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
    return [(line.partition(":")[0], *line.partition(":")[2].split("|")[:2]) for line in found]


def counted(lines: list[tuple[str, str, str]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for name, value, kind in lines:
        if kind == "c":
            counts[name] += int(value)
    return counts


@pytest.mark.parametrize("start", STARTS)
def test_statsd_receives_every_metric(process, statsd, start) -> None:
    process(start, statsd_on="True", statsd_host="127.0.0.1", statsd_port=str(statsd.getsockname()[1]))
    lines = received(statsd)
    assert counted(lines) == COUNTS
    ages = [float(value) for name, value, kind in lines if (name, kind) == ("age_at_use", "ms")]
    assert len(ages) == 4
    assert all(0 <= age < 300_000 for age in ages)


def test_statsd_with_tags_receives_them_as_tags(process, statsd) -> None:
    port = str(statsd.getsockname()[1])
    process("task", statsd_on="True", statsd_host="127.0.0.1", statsd_port=port, statsd_influxdb_enabled="True")
    counts = counted(received(statsd))
    assert counts["lookups,outcome=found,tier=process"] == 2
    assert counts["mint_failures,code=AccessDenied"] == 1


def test_without_metrics_nothing_is_sent(process, statsd) -> None:
    process("task", statsd_host="127.0.0.1", statsd_port=str(statsd.getsockname()[1]))
    assert received(statsd) == []


def test_opentelemetry_receives_names_and_tags(process, tmp_path: Path) -> None:
    bodies = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        process("task", flush=True, otel_on="True", otel_host="127.0.0.1", otel_port=str(server.server_address[1]))
        server.shutdown()
    points = otel_points(bodies[-1])
    assert points["redshift_secrets.lookups", json.dumps({"outcome": "found", "tier": "process"})] == 2
    assert points["redshift_secrets.mint_failures", json.dumps({"code": "AccessDenied"})] == 1


def otel_points(body: bytes) -> dict[tuple[str, str], float]:
    import gzip

    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    request = ExportMetricsServiceRequest()
    request.ParseFromString(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
    return {
        (
            metric.name.removeprefix("airflow."),
            json.dumps({attribute.key: attribute.value.string_value for attribute in point.attributes}, sort_keys=True),
        ): point.as_int or point.as_double
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.sum.data_points
    }
