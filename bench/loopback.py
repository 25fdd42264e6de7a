"""A simulated AWS on loopback, and isolated environments for the processes that use it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.children.airflow_parts import HOST_STORE
from redshift_secrets.local.aws import SimulatedAws
from redshift_secrets.local.config import Cluster, Warehouses
from redshift_secrets.local.tokens import TokenRegistry

BACKEND = "redshift_secrets.RedshiftSecretsBackend"
MINT = "redshift:GetClusterCredentials"
LISTINGS = {"redshift:DescribeClusters": "clusters", "resourcegroupstaggingapi:GetResources": "workgroups"}
"""The call that lists each kind of warehouse; one call for each hundred in a region."""

HIDDEN = ("AIRFLOW", "_AIRFLOW", "AWS_", "XDG_", "PYTHON", "REDSHIFT_SECRETS")
"""How variables begin that are not passed on."""


class _OneAddress:
    """The endpoint of every warehouse: the benchmark looks up connections and does not connect."""

    def address_of(self, warehouse_arn: str, endpoint: str) -> tuple[str, int] | None:
        return "localhost", 5439


@dataclass(frozen=True)
class Loopback:
    """A running simulated AWS and a folder for everything that processes write."""

    aws: SimulatedAws
    folder: Path
    _made: list[Path] = field(default_factory=list)

    def new_host(self) -> dict[str, str]:
        """Return the variables that give a process a separate, empty host store, as on another host."""
        host = self.folder / f"host-{len(self._made)}"
        self._made.append(host)
        return {HOST_STORE: str(host)}

    def environment(self, *parts: dict[str, str]) -> dict[str, str]:
        """Return the environment of a process that uses this AWS, overridden by `parts`."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN)}
        own = {
            "AIRFLOW_HOME": str(self.folder / "airflow"),
            # No profiles or credentials of the person who runs this.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        merged = {**kept, **self.aws.environment(), **own}
        for part in parts:
            merged |= part
        return merged

    def calls(self) -> dict[str, int]:
        """Return the number of calls since the last time, by operation."""
        counts = self.aws.calls.by_operation()
        self.aws.calls.clear()
        return counts


@contextlib.contextmanager
def loopback(clusters: Sequence[Cluster]) -> Iterator[Loopback]:
    """Run a simulated AWS with these clusters until the end of the block, then remove all that was written."""
    folder = Path(tempfile.mkdtemp(prefix="redshift-secrets-bench-", dir=memory_backed()))
    try:
        tokens = TokenRegistry(time.time)
        with SimulatedAws(Warehouses(tuple(clusters)), tokens, endpoints=_OneAddress(), clock=time.time) as aws:
            yield Loopback(aws, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tagged(identifier: str, conn_id: str, region: str = "eu-west-1") -> Cluster:
    """Return a cluster that claims `conn_id`."""
    return Cluster(identifier, region=region, tags={"airflow:conn-id": conn_id, "airflow:db-user": "etl"})


def memory_backed() -> str | None:
    """Return the memory-backed folder in which the host store is by default, if there is one."""
    shared_memory = "/dev/shm"
    return shared_memory if os.access(shared_memory, os.W_OK | os.X_OK) else None


def typed_in(conn_ids: Sequence[str]) -> dict[str, str]:
    """Return the variables with which Airflow's `EnvironmentVariablesBackend` has these connections."""
    connection = json.dumps(
        {
            "conn_type": "redshift",
            "description": "cluster prod (account 123456789012, eu-west-1)",
            "host": "localhost",
            "port": 5439,
            "schema": "dev",
            "login": "IAM:etl",
            "password": "p" * 116,
        }
    )
    return {f"AIRFLOW_CONN_{conn_id.upper()}": connection for conn_id in conn_ids}
