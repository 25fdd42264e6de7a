"""Rows about commands on a big site."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import processes
from bench.big_site import big_site
from bench.figures import Effort, Line, NotMeasuredError, Spread, paired, seconds
from bench.loopback import BACKEND, HIDDEN, memory_backed
from redshift_secrets.local.stand_in import StandIn

_PATIENCE_SECONDS = 180
_SITE = "200 stored connections, 30 clusters, 4 accounts, 3 regions"


def doctor(effort: Effort) -> Sequence[Line]:
    """`redshift-secrets doctor` in a new process, on a site with 200 connections in a metadata database (SQLite), whose conn_ids are
    also in the tags of 30 clusters and 4 workgroups, in 4 accounts and 3 regions, on a loopback AWS with a gateway that answers TLS.
    It lists, tries 5 permissions in each region and account, mints for every login and does a TLS handshake with every warehouse. The
    time that `import airflow.configuration` takes in a new process with the same configuration is not counted: such a process runs
    before each round.
    """
    return [beyond_airflow("doctor", effort, ["doctor"], tagged=200, limit=15.0)]


def migrate_plan(effort: Effort) -> Sequence[Line]:
    """`redshift-secrets migrate plan` in a new process, on the same site with no conn_id in a tag yet: it reads 200 connections from the
    metadata database, lists every warehouse with its VPC endpoints in 4 accounts and 3 regions, and composes the tags of all of them.
    The time that `import airflow.configuration` takes is not counted.
    """
    return [beyond_airflow("migrate plan", effort, ["migrate", "plan"], tagged=0, limit=10.0)]


def listing(effort: Effort) -> Sequence[Line]:
    """`redshift-secrets list` on the same site, once as a process on a warm host, which finds the listings in the host store and asks STS
    who it is, and once with `--no-cache`, which lists 24 scopes. What importing Airflow takes is not counted either."""
    return [
        beyond_airflow("list", effort, ["list"], tagged=200, limit=3.0),
        beyond_airflow("list --no-cache", effort, ["list", "--no-cache"], tagged=200, limit=3.0),
    ]


def usage(effort: Effort) -> Sequence[Line]:
    """`redshift-secrets --help` and the help of a command in a new process, and a Python that does nothing, by turns."""
    return [_help(effort), _help(effort, "migrate", "plan")]


def _help(effort: Effort, *words: str) -> Line:
    command = [str(Path(sys.executable).parent / "redshift-secrets"), *words, "--help"]
    rounds = [
        (_seconds(command, dict(os.environ)), _seconds([sys.executable, "-c", "pass"], dict(os.environ)))
        for _ in range(effort.rounds(20, 5))
    ]
    own, peer = ([each[side] for each in rounds] for side in (0, 1))
    return paired(f"`redshift-secrets {' '.join([*words, '--help'])}`, against `python -c pass`", own, peer, limit=4.0)


def beyond_airflow(name: str, effort: Effort, arguments: Sequence[str], *, tagged: int, limit: float) -> Line:
    """Return the line of a command on the big site, of which the first `tagged` conn_ids are in tags: how much longer it takes than
    importing Airflow's configuration."""
    times = []
    with _running(tagged) as environment:
        command = str(Path(sys.executable).parent / "redshift-secrets")
        for _ in range(effort.rounds(5) + 1):  # in the first one, modules are compiled and the stores are empty
            airflow = _seconds([sys.executable, "-c", "import airflow.configuration"], environment)
            times.append((_seconds([command, *arguments], environment), airflow))
    own, peer = ([each[side] for each in times[1:]] for side in (0, 1))
    beyond = Spread.of([a - b for a, b in zip(own, peer, strict=True)])
    return Line(
        f"`redshift-secrets {name}` with {_SITE}, against `import airflow.configuration`",
        Spread.of(own).show(seconds),
        Spread.of(peer).show(seconds),
        f"{beyond.show(seconds)} more",
        f"{seconds(limit)} more",
        beyond.median <= limit,
    )


@contextlib.contextmanager
def _running(tagged: int) -> Iterator[dict[str, str]]:
    """The environment of a process of the big site, until the end of the block."""
    site = big_site(tagged)
    with (
        tempfile.TemporaryDirectory(prefix="redshift-secrets-bench-", dir=memory_backed()) as home,
        StandIn(site.warehouses) as stand_in,
    ):
        kwargs = {**site.settings, "cache": {"path": f"{home}/store"}}
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(HIDDEN)},
            **stand_in.environment(),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AIRFLOW_HOME": home,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "AIRFLOW__SECRETS__BACKEND": BACKEND,
            "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(kwargs),
        }
        without_backend = {**environment, "AIRFLOW__SECRETS__BACKEND": "", "AIRFLOW__SECRETS__BACKEND_KWARGS": ""}
        connections = site.stored(stand_in.gateway.address_of)
        processes.ask("stored_connections", {"connections": connections}, without_backend)
        yield environment


def _seconds(command: Sequence[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False
    )
    if "Traceback" in done.stderr or done.returncode not in (0, 1):
        raise NotMeasuredError(f"{Path(command[0]).name} ended with {done.returncode}")
    return time.perf_counter() - start
