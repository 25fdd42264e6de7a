"""The stand-in as a whole: the simulated AWS, the gateway and PostgreSQL start and stop together."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from redshift_secrets.local.aws import SimulatedAws
from redshift_secrets.local.aws.arns import warehouse_arn
from redshift_secrets.local.config import Cluster, Warehouses, Workgroup
from redshift_secrets.local.gateway import Gateway
from redshift_secrets.local.roots import trusted_roots
from redshift_secrets.local.tokens import TokenRegistry


class StandIn:
    """Runs warehouses. A context manager that can be started once.

    `port` is the port of the simulated AWS, 0 for a free one. `clock` returns seconds since the epoch; tokens expire
    by it. Raises `ConfigError` for warehouses that AWS could not have.
    """

    def __init__(self, warehouses: Warehouses, *, port: int = 0, clock: Callable[[], float] = time.time) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="redshift-secrets-"))
        try:
            self.tokens = TokenRegistry(clock)
            self.gateway = Gateway(self.tokens, folder=self._folder)
            self.aws = SimulatedAws(warehouses, self.tokens, endpoints=self.gateway, clock=clock, port=port)
            for warehouse in warehouses.all:
                self._add(warehouse)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def _add(self, warehouse: Cluster | Workgroup) -> None:
        admin = warehouse.master_username if isinstance(warehouse, Cluster) else warehouse.admin_username
        endpoints = ["default", *(f"vpc:{name}" for name in warehouse.vpc_endpoints)]
        if warehouse.custom_domain is not None:
            endpoints.append("custom-domain")
        self.gateway.add_warehouse(
            warehouse_arn(warehouse), warehouse.database, admin, tuple(endpoints), warehouse.custom_domain
        )

    def environment(self) -> dict[str, str]:
        """Return the environment variables with which a process uses this stand-in instead of AWS."""
        return {
            **self.aws.environment(),
            "SSL_CERT_FILE": str(self._ca_bundle),
            "PGSSLROOTCERT": str(self._ca_bundle),
        }

    def start(self) -> None:
        """Start serving; raises `OSError` if a port is in use."""
        try:
            self._ca_bundle = self._write_ca_bundle()
            self.gateway.start()
            self.aws.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything and remove all files. Idempotent."""
        try:
            self.aws.stop()
            self.gateway.stop()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _write_ca_bundle(self) -> Path:
        # SSL_CERT_FILE replaces the system's certificates, which a process needs for other servers: so include them.
        bundle = self._folder / "ca-bundle.pem"
        bundle.write_bytes(trusted_roots() + self.gateway.ca_file.read_bytes())
        return bundle

    def __enter__(self) -> StandIn:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
