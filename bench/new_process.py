"""Rows about what a new process pays: for importing us, and for its first lookup."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import boto3

from bench import loopback, parts, processes
from bench.figures import Effort, Line, NotMeasuredError, Spread, paired, percent, seconds
from bench.loopback import OURS, Loopback

_PEER = "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend"
_PREFIX = "airflow/connections"
_CONN_ID = "analytics"
_MOST_ADDED = 0.01


def first_lookup(effort: Effort) -> Sequence[Line]:
    """Every time is of the first call of `get_connection` in a new interpreter, which has imported `airflow.configuration`
    and the Connection class of tasks, and constructed the backend: Airflow does that while it is imported, and the next
    row is about it. What the lookup imports is inside. One process before the first round has filled the host's store.
    The peer is the Amazon provider's `SecretsManagerBackend`, whose secret is in the loopback AWS; ours and the peer's
    processes take turns. After the answer the child looks whether boto3 is loaded. Neither side has network time in it. The
    second line also has importing and constructing the backend in it, on both sides.

    The last lines are a profile: further processes of ours, in which the functions that make a part up have a clock around
    them; a share is of the whole lookup. The code that is not ours is what no lookup can do without: the password must be
    known to Airflow's maskers before it is handed out, Airflow's configuration has the key, and a store that other processes
    share, sealed, has to be opened and read. Each of them runs for the first time in its process, which takes several times as
    long as the next time; with these calls made as they are, a first lookup takes no less.
    """
    with loopback.loopback([loopback.tagged("prod", _CONN_ID)]) as site:
        _put_secret(site)
        ours = _Lookup(site, OURS, {"regions": ["eu-west-1"]})
        peer = _Lookup(site, _PEER, {"connections_prefix": _PREFIX})
        for lookup in (ours, peer):
            lookup.warm_up()
        for _ in range(effort.rounds(11)):
            for lookup in (ours, peer):
                lookup.time()
        profile = ours.parts(effort.rounds(11), Spread.of(peer.seconds()))
    no_boto3 = not any(report["boto3"] for report in ours.reports)
    line = paired(
        "first lookup in a new process on a warm host, against `SecretsManagerBackend`'s",
        ours.seconds(),
        peer.seconds(),
        limit=0.01,
        besides=no_boto3,
        note=", boto3 not imported",
    )
    whole = paired(
        "- the same with importing and constructing the backend", ours.seconds(True), peer.seconds(True), limit=None
    )
    loaded = Line(
        "- boto3 imported by the lookup", "no" if no_boto3 else "yes", "no" if not _any_boto3(peer) else "yes"
    )
    return [line, whole, loaded, Line("- AWS calls of a lookup", ours.calls_each(), peer.calls_each()), *profile]


def catalog_size(effort: Effort) -> Sequence[Line]:
    """The first lookup of a new process as above, ours on both sides: on a host whose store knows 10,000 clusters with
    a conn_id each, spread over four regions, and on one that knows 10, spread over four other regions. The processes of
    the two hosts take turns. Where a host cannot remember its catalog, each lookup lists it again and pays for that.
    """
    clusters = [*many_clusters(2_500, BIG_REGIONS), *many_clusters(3, SMALL_REGIONS)[:10]]
    with loopback.loopback(clusters) as site:
        # Listing for the first time is not what this is about, and the AWS that answers shares the cores with it.
        patient = {"aws_timeout_seconds": 120}
        big = _Lookup(site, OURS, {"regions": BIG_REGIONS, **patient}, f"{BIG_REGIONS[2]}-7")
        small = _Lookup(site, OURS, {"regions": SMALL_REGIONS, **patient}, f"{SMALL_REGIONS[2]}-1")
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
    """Every time is of a new interpreter. It imports `airflow.configuration` with no secrets backend configured, which is the
    peer's time, and then imports our module and constructs the backend, which is ours: all that Airflow has not loaded
    by itself is inside. Below it is what that is made of; constructing has OpenSSL look its algorithms up, which the first
    lookup of each forked process would have to do otherwise. The further lines are whole imports of `airflow.configuration` with us as `[secrets] backend`, in
    turns with those without, in processor time and by the clock. Their share is the median of each round's own
    difference, and carries the noise of two whole imports.
    """
    kwargs = {"regions": ["eu-west-1"], "db_user": "airflow_etl"}
    configured = {"AIRFLOW__SECRETS__BACKEND": OURS, "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(kwargs)}
    reports: dict[str, list[dict[str, Any]]] = {"without": [], "with": []}
    with loopback.loopback([]) as site:
        without = {"backend": OURS, "kwargs": kwargs}, site.environment(site.new_host())
        sides = {"without": without, "with": ({}, site.environment(site.new_host(), configured))}
        for request, environment in sides.values():  # so that all is compiled, and Airflow's configuration is there
            processes.ask("importing", request, environment)
        for _ in range(effort.rounds(21)):
            for side, (request, environment) in sides.items():
                reports[side].append(processes.ask("importing", request, environment))
    if not all("RedshiftSecretsBackend" in report["backends"] for report in reports["with"]):
        raise NotMeasuredError("Airflow did not construct our backend")
    ours, peer = ([report[time] for report in reports["without"]] for time in ("ours_seconds", "seconds"))
    share = Spread.of([a / b for a, b in zip(ours, peer, strict=True)])
    return [
        Line(
            "importing and constructing the backend, against `import airflow.configuration` without it",
            ours=Spread.of(ours).show(seconds),
            peer=Spread.of(peer).show(seconds),
            ratio=share.show(percent),
            limit=percent(_MOST_ADDED),
            met=share.median <= _MOST_ADDED,
        ),
        *(
            Line(f"- {part}", Spread.of([report["parts"][part] for report in reports["without"]]).show(seconds))
            for part in reports["without"][0]["parts"]
        ),
        _whole_imports("- whole imports with and without us, processor time", reports, "cpu_seconds"),
        _whole_imports("- whole imports with and without us, by the clock", reports, "seconds"),
    ]


BIG_REGIONS = ["eu-west-1", "eu-central-1", "us-east-1", "us-west-2"]
SMALL_REGIONS = ["eu-west-2", "eu-west-3", "us-east-2", "us-west-1"]


def many_clusters(each: int, regions: Sequence[str]) -> list[Any]:
    """Clusters with one conn_id each, `each` in every region: `<region>-<number>`."""
    return [loopback.tagged(f"c{n}", f"{region}-{n}", region) for n in range(each) for region in regions]


class _Lookup:
    """One side of a pair: what is looked up, on a host of its own, and what came of it."""

    def __init__(self, site: Loopback, backend: str, kwargs: dict[str, Any], conn_id: str = _CONN_ID) -> None:
        self._site = site
        self._environment = site.environment(site.new_host())
        self._request = {"backend": backend, "kwargs": kwargs, "conn_id": conn_id}
        self.reports: list[dict[str, Any]] = []
        self._calls = 0

    def warm_up(self) -> None:
        """Look up once for what stays behind: stores, compiled modules, Airflow's configuration."""
        self._ask()
        self._site.calls()

    def time(self) -> None:
        """Look up in a new process."""
        self.reports.append(self._ask())
        self._calls += sum(self._site.calls().values())

    def seconds(self, with_import: bool = False) -> list[float]:
        return [report["lookup_seconds"] + with_import * report["import_seconds"] for report in self.reports]

    def parts(self, rounds: int, peer: Spread) -> Sequence[Line]:
        """Take the lookup apart."""
        return parts.lines(self._request, self._environment, rounds, peer)

    def calls_each(self) -> str:
        return f"{self._calls / len(self.reports):g}"

    def _ask(self) -> dict[str, Any]:
        report = processes.ask("lookup", self._request, self._environment)
        if not report["answered"]:
            raise NotMeasuredError(f"{self._request['backend']} did not answer")
        if report["boto3_before"]:
            raise NotMeasuredError("Airflow itself has loaded boto3, so nothing can be said about us")
        return report


def _any_boto3(lookup: _Lookup) -> bool:
    return any(report["boto3"] for report in lookup.reports)


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
    ours, peer = ([report[kind] for report in reports[side]] for side in ("with", "without"))
    share = Spread.of([(a - b) / b for a, b in zip(ours, peer, strict=True)])
    return Line(work, Spread.of(ours).show(seconds), Spread.of(peer).show(seconds), share.show(percent))
