"""Rows about the costs of a new process: importing this backend, and the first lookup."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import boto3

from bench import loopback, parts, processes
from bench.figures import Effort, Line, NotMeasuredError, Spread, paired, percent, seconds
from bench.loopback import BACKEND, Loopback

_PEER = "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend"
_PREFIX = "airflow/connections"
_CONN_ID = "analytics"
_MAX_ADDED = 0.01
_MAX_TIMES_OTHERS = 1.25


def first_lookup(effort: Effort) -> Sequence[Line]:
    """Each time is that of the first call of `get_connection` in a new interpreter that has imported
    `airflow.configuration` and the Connection class of tasks, and constructed the backend: Airflow does this while it
    is imported, and the next row measures it. What the lookup itself imports is included. One process has filled the
    host store before the first round. After the answer the child checks whether boto3 is loaded.

    The first line is a profile: the functions that make up a part are timed, without what they spend in another part. It
    compares the whole lookup with the parts that are nearly all code of other projects, in the same process. Every lookup
    needs these: the password must be registered with Airflow's maskers before it is handed out, the key is in Airflow's
    configuration, a sealed store that other processes share has to be opened and read, and the task's log has a line of it. Each of these runs for the
    first time in its process, which takes several times as long as the second time; as long as these calls are needed, a
    first lookup cannot be faster than their sum. The shares below are those of the whole lookup.

    The last lines compare with the Amazon provider's `SecretsManagerBackend`, whose secret is in the loopback AWS;
    processes of this backend, without a profile, and of the peer alternate. Neither side has any network latency. One of
    the lines also includes importing and constructing the backend, on both sides.
    """
    with loopback.loopback([loopback.tagged("prod", _CONN_ID)]) as site:
        _put_secret(site)
        own = _Lookup(site, BACKEND, {"regions": ["eu-west-1"]})
        peer = _Lookup(site, _PEER, {"connections_prefix": _PREFIX})
        for lookup in (own, peer):
            lookup.warm_up()
        for _ in range(effort.rounds(11)):
            for lookup in (own, peer):
                lookup.time()
        profile = own.parts(effort.rounds(11))
    against = "- against `SecretsManagerBackend`'s first lookup"
    return [
        *profile,
        paired(against, own.seconds(), peer.seconds(), limit=None),
        paired(
            "- the same with importing and constructing the backend", own.seconds(True), peer.seconds(True), limit=None
        ),
        Line("- boto3 imported by the lookup", _yes_no(own.loads_boto3), _yes_no(peer.loads_boto3)),
        Line("- AWS calls of a lookup", own.calls_each(), peer.calls_each()),
    ]


def catalog_size(effort: Effort) -> Sequence[Line]:
    """The first lookup of a new process as above, with this backend on both sides: on a host whose store has 10,000
    clusters with one conn_id each, spread over four regions, and on a host whose store has 10, spread over four other
    regions. The processes of the two hosts alternate. If a host cannot store its catalog, each lookup has to list it
    again, and that time is included.
    """
    clusters = [*many_clusters(2_500, BIG_REGIONS), *many_clusters(3, SMALL_REGIONS)[:10]]
    with loopback.loopback(clusters) as site:
        # The first listing is not measured, and the simulated AWS shares the cores with it.
        patient = {"aws_timeout_seconds": 120}
        big = _Lookup(site, BACKEND, {"regions": BIG_REGIONS, **patient}, f"{BIG_REGIONS[2]}-7")
        small = _Lookup(site, BACKEND, {"regions": SMALL_REGIONS, **patient}, f"{SMALL_REGIONS[2]}-1")
        for lookup in (big, small):
            lookup.warm_up()
        for _ in range(effort.rounds(11)):
            for lookup in (big, small):
                lookup.time()
    return [
        paired(
            "the same new-process lookup with 10,000 connections in the catalog, against 10",
            big.seconds(),
            small.seconds(),
            limit=1.5,
        ),
        Line("- AWS calls of a lookup", big.calls_each(), small.calls_each()),
    ]


def importing(effort: Effort) -> Sequence[Line]:
    """Each time is that of a new interpreter. It imports `airflow.configuration` with no secrets backend configured,
    which is the peer's time, and then imports this backend's module and constructs the backend, which is the time of
    this backend: everything that Airflow has not already loaded is included. The lines below show the parts;
    constructing makes OpenSSL look up its algorithms, which otherwise the first lookup of each forked process would
    have to do. The further lines are whole imports of `airflow.configuration` with this backend as `[secrets] backend`,
    alternating with imports without it, in processor time and in wall-clock time. Their share is the median of the
    difference within each round, and has the noise of two whole imports.
    """
    kwargs = {"regions": ["eu-west-1"], "db_user": "airflow_etl"}
    configured = {"AIRFLOW__SECRETS__BACKEND": BACKEND, "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(kwargs)}
    reports: dict[str, list[dict[str, Any]]] = {"without": [], "with": []}
    with loopback.loopback([]) as site:
        without = {"backend": BACKEND, "kwargs": kwargs}, site.environment(site.new_host())
        sides = {"without": without, "with": ({}, site.environment(site.new_host(), configured))}
        for request, environment in sides.values():  # compile modules and write Airflow's configuration
            processes.ask("importing", request, environment)
        for _ in range(effort.rounds(21)):
            for side, (request, environment) in sides.items():
                reports[side].append(processes.ask("importing", request, environment))
    if not all("RedshiftSecretsBackend" in report["backends"] for report in reports["with"]):
        raise NotMeasuredError("Airflow did not construct this backend")
    own, peer = ([report[time] for report in reports["without"]] for time in ("backend_seconds", "seconds"))
    share = Spread.of([a / b for a, b in zip(own, peer, strict=True)])
    return [
        Line(
            "importing and constructing the backend, against `import airflow.configuration` without it",
            own=Spread.of(own).show(seconds),
            peer=Spread.of(peer).show(seconds),
            ratio=share.show(percent),
            limit=percent(_MAX_ADDED),
            met=share.median <= _MAX_ADDED,
        ),
        *(
            Line(f"- {part}", Spread.of([report["parts"][part] for report in reports["without"]]).show(seconds))
            for part in reports["without"][0]["parts"]
        ),
        _whole_imports("- whole imports with and without this backend, processor time", reports, "cpu_seconds"),
        _whole_imports("- whole imports with and without this backend, wall-clock time", reports, "seconds"),
    ]


BIG_REGIONS = ["eu-west-1", "eu-central-1", "us-east-1", "us-west-2"]
SMALL_REGIONS = ["eu-west-2", "eu-west-3", "us-east-2", "us-west-1"]


def many_clusters(each: int, regions: Sequence[str]) -> list[Any]:
    """Return `each` clusters in every region, with the conn_id `<region>-<number>`."""
    return [loopback.tagged(f"c{n}", f"{region}-{n}", region) for n in range(each) for region in regions]


class _Lookup:
    """One side of a pair: a lookup on a separate host, and its results."""

    def __init__(self, site: Loopback, backend: str, kwargs: dict[str, Any], conn_id: str = _CONN_ID) -> None:
        self._site = site
        self._environment = site.environment(site.new_host())
        self._request = {"backend": backend, "kwargs": kwargs, "conn_id": conn_id}
        self.reports: list[dict[str, Any]] = []
        self._calls = 0

    def warm_up(self) -> None:
        """Look up once, to fill the stores, compile modules and write Airflow's configuration."""
        self._ask()
        self._site.calls()

    def time(self) -> None:
        """Look up in a new process and keep its report."""
        self.reports.append(self._ask())
        self._calls += sum(self._site.calls().values())

    def seconds(self, with_import: bool = False) -> list[float]:
        return [report["lookup_seconds"] + with_import * report["import_seconds"] for report in self.reports]

    @property
    def loads_boto3(self) -> bool:
        """Whether any of the lookups has loaded boto3."""
        return any(report["boto3"] for report in self.reports)

    def parts(self, rounds: int) -> Sequence[Line]:
        """Return the lines of the profile."""
        return parts.lines(
            self._request, self._environment, rounds, limit=_MAX_TIMES_OTHERS, loads_boto3=self.loads_boto3
        )

    def calls_each(self) -> str:
        return f"{self._calls / len(self.reports):g}"

    def _ask(self) -> dict[str, Any]:
        report = processes.ask("lookup", self._request, self._environment)
        if not report["answered"]:
            raise NotMeasuredError(f"{self._request['backend']} did not answer")
        if report["boto3_before"]:
            raise NotMeasuredError(
                "Airflow itself has loaded boto3, so whether this backend loads it cannot be measured"
            )
        return report


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"


def _put_secret(site: Loopback) -> None:
    environment = site.aws.environment()
    client = boto3.client(
        "secretsmanager",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_DEFAULT_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
    secret = {"conn_type": "redshift", "host": "localhost", "port": 5439, "login": "etl", "password": "p" * 116}
    client.create_secret(Name=f"{_PREFIX}/{_CONN_ID}", SecretString=json.dumps(secret))


def _whole_imports(work: str, reports: dict[str, list[dict[str, Any]]], kind: str) -> Line:
    own, peer = ([report[kind] for report in reports[side]] for side in ("with", "without"))
    share = Spread.of([(a - b) / b for a, b in zip(own, peer, strict=True)])
    return Line(work, Spread.of(own).show(seconds), Spread.of(peer).show(seconds), share.show(percent))
