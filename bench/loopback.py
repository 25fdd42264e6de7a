"""AWS on loopback, and the environments of processes that use it and share nothing with anything else."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from redshift_secrets.local.aws import SimulatedAws
from redshift_secrets.local.config import Cluster, Warehouses
from redshift_secrets.local.tokens import TokenRegistry

OURS = "redshift_secrets.RedshiftSecretsBackend"
MINT = "redshift:GetClusterCredentials"
LISTINGS = {"redshift:DescribeClusters": "clusters", "resourcegroupstaggingapi:GetResources": "workgroups"}
"""The call that lists each kind of warehouse; one for each hundred in a region."""

_HIDDEN = ("AIRFLOW", "_AIRFLOW", "AWS_", "XDG_", "PYTHON", "REDSHIFT_SECRETS")


class _OneAddress:
    """The endpoint of every warehouse: the bench looks connections up and does not connect."""

    def address_of(self, warehouse_arn: str, endpoint: str) -> tuple[str, int] | None:
        return "localhost", 5439


@dataclass(frozen=True)
class Loopback:
    """A running AWS and a folder for everything that processes write."""

    aws: SimulatedAws
    folder: Path
    _made: list[Path] = field(default_factory=list)

    def new_host(self) -> dict[str, str]:
        """Return what makes a process believe that it is on a host of its own, with nothing in its store yet."""
        host = self.folder / f"host-{len(self._made)}"
        host.mkdir(mode=0o700)
        self._made.append(host)
        return {"XDG_RUNTIME_DIR": str(host), "XDG_CACHE_HOME": str(host)}

    def environment(self, *parts: dict[str, str]) -> dict[str, str]:
        """Return the environment of a process that uses this AWS, with `parts` laid over."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_HIDDEN)}
        own = {
            "AIRFLOW_HOME": str(self.folder / "airflow"),
            # Nothing of the person who runs this may take part: neither profiles nor credentials.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
        merged = {**kept, **self.aws.environment(), **own}
        for part in parts:
            merged |= part
        return merged

    def calls(self) -> dict[str, int]:
        """Return the calls since this was last asked, by operation."""
        counts = self.aws.calls.by_operation()
        self.aws.calls.clear()
        return counts


@contextlib.contextmanager
def loopback(clusters: Sequence[Cluster]) -> Iterator[Loopback]:
    """Run an AWS with these clusters until the end of the block; then all that was written is removed."""
    folder = Path(tempfile.mkdtemp(prefix="redshift-secrets-bench-", dir=memory_backed()))
    try:
        tokens = TokenRegistry(time.time)
        with SimulatedAws(Warehouses(tuple(clusters)), tokens, endpoints=_OneAddress(), clock=time.time) as aws:
            yield Loopback(aws, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tagged(identifier: str, conn_id: str, region: str = "eu-west-1") -> Cluster:
    """A cluster that claims `conn_id`."""
    return Cluster(identifier, region=region, tags={"airflow:conn-id": conn_id, "airflow:db-user": "etl"})


def memory_backed() -> str | None:
    """Return a folder in memory where there is one.

    `$XDG_RUNTIME_DIR`, where the host's store lives, is memory-backed on the machines that have it, so here too.
    """
    shared_memory = "/dev/shm"
    return shared_memory if os.access(shared_memory, os.W_OK | os.X_OK) else None
