"""The simulated AWS: put together, started and stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from redshift_secrets.local.aws.application import Application, Operation
from redshift_secrets.local.aws.arns import namespace_name
from redshift_secrets.local.aws.endpoints import EndpointDirectory
from redshift_secrets.local.aws.faults import Calls, Faults
from redshift_secrets.local.aws.identity import Identities, caller_of
from redshift_secrets.local.aws.inventory import Inventory, Live, label
from redshift_secrets.local.aws.models import service_model
from redshift_secrets.local.aws.moto_services import (
    ManagedSecret,
    MotoServices,
    managed_password,
    put_managed_secret,
)
from redshift_secrets.local.aws.redshift import Redshift
from redshift_secrets.local.aws.server import HOST, HttpServer
from redshift_secrets.local.aws.serverless import Serverless
from redshift_secrets.local.aws.sts import Sts
from redshift_secrets.local.aws.tagging import Tagging
from redshift_secrets.local.aws.validation import violations
from redshift_secrets.local.config import (
    DEFAULT_ACCOUNT,
    DEFAULT_REGION,
    Cluster,
    ConfigError,
    Warehouses,
    Workgroup,
)
from redshift_secrets.local.tokens import TokenRegistry


class SimulatedAws:
    """AWS on loopback, as far as someone who connects to Redshift sees it.

    Redshift, Redshift Serverless, the tagging API, AssumeRole and GetCallerIdentity are ours, kept per instance;
    whatever else moto has (Secrets Manager, IAM, S3, ...) moto serves. moto keeps its state per process: only one
    simulated AWS at a time can rely on it, managed admin secrets included. Permissions and signatures are not checked.

    `clock` returns seconds since the epoch. `port` 0 takes a free one at each start.
    Raises `ConfigError` for warehouses that AWS could not have.
    """

    def __init__(
        self,
        warehouses: Warehouses,
        tokens: TokenRegistry,
        *,
        endpoints: EndpointDirectory,
        clock: Callable[[], float],
        port: int = 0,
    ) -> None:
        self.calls = Calls()
        self.faults = Faults()
        self._inventory = Inventory(warehouses, clock)
        self._identities = Identities(clock)
        self._key = self._identities.add(caller_of(f"arn:aws:iam::{DEFAULT_ACCOUNT}:user/airflow"))
        self._redshift = Redshift(self._inventory, endpoints, tokens)
        self._serverless = Serverless(self._inventory, endpoints, tokens)
        self._operations: dict[str, Operation] = {
            f"{service}:{name}": operation
            for service, operations in {
                "redshift": self._redshift.operations,
                "redshift-serverless": self._serverless.operations,
                "resourcegroupstaggingapi": Tagging(self._inventory).operations,
                "sts": Sts(warehouses.roles, self._identities).operations,
            }.items()
            for name, operation in operations.items()
        }
        for live in self._inventory.all():
            self._check(live)
        self._moto = MotoServices()
        self._managed = dict(_managed_secrets(self._inventory))
        for arn, secret in self._managed.items():
            user = secret.username
            tokens.mint(warehouse=arn, user=user, role=user, duration=None, password=secret.password)
        self._wanted_port = port
        self._server: HttpServer | None = None
        self._stopping = threading.Event()

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`, the AWS_ENDPOINT_URL. Raises `RuntimeError` when not started."""
        if self._server is None:
            raise RuntimeError("the simulated AWS is not started")
        return f"http://{HOST}:{self._server.port}"

    def environment(self) -> dict[str, str]:
        """The environment of a process that is to use this AWS, as the IAM user `airflow` of the default account."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self._key.key_id,
            "AWS_SECRET_ACCESS_KEY": self._key.secret,
            "AWS_DEFAULT_REGION": DEFAULT_REGION,
            # No credentials, region or anything else from a machine that happens to be in the real AWS.
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self) -> None:
        """Serve; raises `OSError` if the port is taken, `RuntimeError` if started already."""
        if self._server is not None:
            raise RuntimeError("the simulated AWS is started already")
        self._stopping = threading.Event()
        application = Application(
            self._operations, self._identities, self.calls, self.faults, self._moto, self._stopping
        )
        self._moto.start()
        for arn, secret in self._managed.items():
            self._inventory.set_secret(arn, put_managed_secret(secret))
        try:
            self._server = HttpServer(application, self._wanted_port)
        except OSError:
            self._moto.stop()
            raise

    def stop(self) -> None:
        """Stop serving. Requests that are held by a fault are hung up on. Does nothing when not started."""
        server, self._server = self._server, None
        if server is None:
            return
        self._stopping.set()
        self.faults.release()
        server.stop()
        self._moto.stop()

    def add_access_key(self, arn: str) -> tuple[str, str, str | None]:
        """Key id, secret and session token (`None` for a user) of a new key that does not expire.

        `arn` is that of an IAM user or of an assumed role's session; raises `ValueError` for any other.
        """
        key = self._identities.add(caller_of(arn))
        return key.key_id, key.secret, key.session_token

    def set_status(self, arn: str, status: str) -> None:
        """Put a warehouse into a state such as `resuming` or `MODIFYING`.

        Raises `KeyError` for an ARN that is none of ours, `ValueError` for a state that AWS does not have.
        """
        live = {one.arn: one for one in self._inventory.all()}[arn]
        if isinstance(live.config, Workgroup):
            shape = service_model("redshift-serverless").shape_for("WorkgroupStatus")
            found = list(violations(status, shape, f"status of {label(live.config)}"))
            if found:
                raise ValueError(found[0])
        self._inventory.set_status(arn, status)

    def __enter__(self) -> SimulatedAws:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _check(self, live: Live[Cluster] | Live[Workgroup]) -> None:
        """A warehouse that AWS could not describe is a mistake in the configuration, to be told before the start."""
        described: list[tuple[Any, str, str]]
        if isinstance(live.config, Cluster):
            described = [(self._redshift.describe(live), "redshift", "Cluster")]
        else:
            described = [
                (self._serverless.describe(live), "redshift-serverless", "Workgroup"),
                (self._serverless.describe_namespace(live), "redshift-serverless", "Namespace"),
            ]
        for content, service, shape in described:
            found = list(violations(content, service_model(service).shape_for(shape), shape))
            if found:
                raise ConfigError(f"{label(live.config)}: {'; '.join(found)}")


def _managed_secrets(inventory: Inventory) -> Iterator[tuple[str, ManagedSecret]]:
    # https://docs.aws.amazon.com/redshift/latest/mgmt/redshift-secrets-manager-integration.html
    for live in inventory.all():
        config = live.config
        if isinstance(config, Cluster) and config.manage_master_password:
            name, user = f"redshift!{config.identifier}-{config.master_username}", config.master_username
        elif isinstance(config, Workgroup) and config.manage_admin_password:
            name, user = f"redshift!{namespace_name(config)}-{config.admin_username}", config.admin_username
        else:
            continue
        yield live.arn, ManagedSecret(name, config.account, config.region, user, managed_password())
