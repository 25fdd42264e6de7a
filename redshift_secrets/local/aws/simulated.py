"""The simulated AWS as a whole."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from redshift_secrets.local.aws.application import Application, Operation
from redshift_secrets.local.aws.arns import namespace_name
from redshift_secrets.local.aws.authorization import Authorization
from redshift_secrets.local.aws.endpoints import EndpointDirectory
from redshift_secrets.local.aws.faults import Calls, Faults
from redshift_secrets.local.aws.identity import Identities, caller_from_arn
from redshift_secrets.local.aws.inventory import Inventory, WarehouseState, label
from redshift_secrets.local.aws.models import service_model
from redshift_secrets.local.aws.moto_services import (
    ManagedSecret,
    MotoServices,
    generate_managed_password,
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
    IdentityPolicies,
    Role,
    Warehouses,
    Workgroup,
)
from redshift_secrets.local.tokens import TokenRegistry


class SimulatedAws:
    """AWS on loopback, to the extent that clients of Redshift need it.

    Redshift, Redshift Serverless, the tagging API, AssumeRole and GetCallerIdentity are implemented here, with
    state kept per instance; all else that moto simulates (Secrets Manager, IAM, S3, ...) is passed to moto. moto keeps
    its state per process: only one simulated AWS at a time can rely on it, also for managed admin secrets. Signatures
    are not checked, and permissions only where the warehouses come with policies.

    `clock` returns seconds since the epoch. With `port` 0, each start chooses a free port.
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
        self._key = self._identities.add(caller_from_arn(f"arn:aws:iam::{DEFAULT_ACCOUNT}:user/airflow"))
        self._redshift = Redshift(self._inventory, endpoints, tokens)
        self._serverless = Serverless(self._inventory, endpoints, tokens)
        self._operations: dict[str, Operation] = {
            f"{service}:{name}": operation
            for service, operations in {
                "redshift": self._redshift.operations,
                "redshift-serverless": self._serverless.operations,
                "resourcegroupstaggingapi": Tagging(self._inventory).operations,
                "sts": Sts(_roles(warehouses), self._identities).operations,
            }.items()
            for name, operation in operations.items()
        }
        for state in self._inventory.all():
            self._validate(state)
        self._authorization = Authorization(self._inventory)
        self._authorization.set_policies(warehouses.policies)
        self._moto = MotoServices()
        self._secrets = dict(_managed_secrets(self._inventory))
        for arn, secret in self._secrets.items():
            user = secret.username
            tokens.mint(warehouse=arn, user=user, role=user, duration=None, password=secret.password)
        self._requested_port = port
        self._server: HttpServer | None = None
        self._stopping = threading.Event()

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`, the AWS_ENDPOINT_URL. Raises `RuntimeError` when not started."""
        if self._server is None:
            raise RuntimeError("the simulated AWS is not started")
        return f"http://{HOST}:{self._server.port}"

    def environment(self) -> dict[str, str]:
        """Return the environment of a process that uses this AWS as the IAM user `airflow` of the default account."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self._key.key_id,
            "AWS_SECRET_ACCESS_KEY": self._key.secret,
            "AWS_DEFAULT_REGION": DEFAULT_REGION,
            # On a machine in the real AWS: take no credentials or region from its metadata service.
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self) -> None:
        """Start serving; raises `OSError` if the port is in use, `RuntimeError` if already started."""
        if self._server is not None:
            raise RuntimeError("the simulated AWS is already started")
        self._stopping = threading.Event()
        application = Application(
            self._operations, self._identities, self.calls, self.faults, self._moto, self._stopping, self._authorization
        )
        self._moto.start()
        for arn, secret in self._secrets.items():
            self._inventory.set_secret(arn, put_managed_secret(secret))
        try:
            self._server = HttpServer(application, self._requested_port)
        except OSError as error:
            self._moto.stop()
            raise OSError(
                f"port {self._requested_port} of 127.0.0.1 cannot be used: {os.strerror(error.errno or 0)}. Name another one"
                " with --port, or leave that out"
            ) from None

    def stop(self) -> None:
        """Stop serving, and close the connections of requests that a fault holds. Does nothing if not started."""
        server, self._server = self._server, None
        if server is None:
            return
        self._stopping.set()
        self.faults.release()
        server.stop()
        self._moto.stop()

    def add_access_key(self, arn: str) -> tuple[str, str, str | None]:
        """Return key id, secret and session token (`None` for a user) of a new key that does not expire.

        `arn` is that of an IAM user or of a session of an assumed role; raises `ValueError` for any other.
        """
        key = self._identities.add(caller_from_arn(arn))
        return key.key_id, key.secret, key.session_token

    def set_status(self, arn: str, status: str) -> None:
        """Set the status of a warehouse, such as `resuming` or `MODIFYING`.

        Raises `KeyError` for an unknown ARN, `ValueError` for a workgroup status that AWS does not have.
        """
        state = {state.arn: state for state in self._inventory.all()}[arn]
        if isinstance(state.config, Workgroup):
            shape = service_model("redshift-serverless").shape_for("WorkgroupStatus")
            found = list(violations(status, shape, f"status of {label(state.config)}"))
            if found:
                raise ValueError(found[0])
        self._inventory.set_status(arn, status)

    def set_policies(self, policies: tuple[IdentityPolicies, ...]) -> None:
        """Have IAM policies like those of `warehouses.yaml` instead of the ones before. A role that only they have cannot be assumed."""
        self._authorization.set_policies(policies)

    def __enter__(self) -> SimulatedAws:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _validate(self, state: WarehouseState[Cluster] | WarehouseState[Workgroup]) -> None:
        """Raise `ConfigError` for a warehouse that AWS could not describe."""
        descriptions: list[tuple[Any, str, str]]
        if isinstance(state.config, Cluster):
            descriptions = [(self._redshift.describe(state), "redshift", "Cluster")]
        else:
            descriptions = [
                (self._serverless.describe(state), "redshift-serverless", "Workgroup"),
                (self._serverless.describe_namespace(state), "redshift-serverless", "Namespace"),
            ]
        for description, service, shape in descriptions:
            found = list(violations(description, service_model(service).shape_for(shape), shape))
            if found:
                raise ConfigError(f"{label(state.config)}: {'; '.join(found)}")


def _managed_secrets(inventory: Inventory) -> Iterator[tuple[str, ManagedSecret]]:
    # https://docs.aws.amazon.com/redshift/latest/mgmt/redshift-secrets-manager-integration.html
    for state in inventory.all():
        config = state.config
        if isinstance(config, Cluster) and config.manage_master_password:
            name, user = f"redshift!{config.identifier}-{config.master_username}", config.master_username
        elif isinstance(config, Workgroup) and config.manage_admin_password:
            name, user = f"redshift!{namespace_name(config)}-{config.admin_username}", config.admin_username
        else:
            continue
        password, key = generate_managed_password(), config.secret_kms_key_id
        yield state.arn, ManagedSecret(name, config.account, config.region, user, password, key)


def _roles(warehouses: Warehouses) -> tuple[Role, ...]:
    """With a trust policy, a role is assumed by whom that names."""
    known = {role.arn for role in warehouses.roles}
    trusting = (each.identity for each in warehouses.policies if each.trust_policy is not None)
    return (*warehouses.roles, *(Role(arn, tag_session=True) for arn in trusting if arn not in known))
