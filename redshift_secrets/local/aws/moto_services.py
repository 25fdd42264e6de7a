"""The services that moto simulates, in this process.

moto keeps its state per process, not per instance: several simulated AWS running in one process share one Secrets
Manager, IAM and so on. The first one to start resets them.
"""

from __future__ import annotations

import json
import secrets
import string
import threading
from dataclasses import dataclass, field
from typing import Any

from moto.backend_index import backend_url_patterns
from moto.backends import get_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.wrappers import Response

from redshift_secrets.local.aws.errors import NotSimulatedError
from redshift_secrets.local.aws.requests import AwsRequest

_SIMULATED_HERE = ("redshift", "redshift-serverless", "resourcegroupstaggingapi")
# moto implements these too, but issues keys that the services simulated here would reject.
_ISSUES_KEYS = (
    "sts:AssumeRoleWithSAML",
    "sts:AssumeRoleWithWebIdentity",
    "sts:GetFederationToken",
    "sts:GetSessionToken",
    "iam:CreateAccessKey",
)
_RESET_AT_START = ("secretsmanager", "iam", "sts", "redshift-data", "ssm")

_running_lock = threading.Lock()
_running: set[int] = set()


@dataclass(frozen=True)
class ManagedSecret:
    """An admin password that AWS manages."""

    name: str
    account: str
    region: str
    username: str
    password: str = field(repr=False)
    kms_key_id: str | None = None


class MotoServices:
    """Dispatches requests to moto."""

    def __init__(self) -> None:
        self._dispatcher = DomainDispatcherApplication(create_backend_app)

    def start(self) -> None:
        """Reset moto's state, unless another simulated AWS is running in this process."""
        with _running_lock:
            if not _running:
                for service in _RESET_AT_START:
                    _backend(service).reset()
            _running.add(id(self))

    def stop(self) -> None:
        """Let the next simulated AWS to start reset moto's state."""
        with _running_lock:
            _running.discard(id(self))

    def respond(self, aws_request: AwsRequest, account: str) -> Response:
        """Return moto's response to a request from `account`; raises `NotSimulatedError` if moto has none."""
        not_simulated = NotSimulatedError(f"The simulated AWS does not implement {aws_request.name}")
        if aws_request.service in _SIMULATED_HERE or aws_request.name in _ISSUES_KEYS:
            # moto's Redshift has its own clusters; its operations would return other warehouses.
            raise not_simulated
        environ: dict[str, Any] = aws_request.http_request.environ
        host = self._dispatcher.infer_service_region_host(environ, environ.get("PATH_INFO", ""))
        if host is None or not any(pattern.match(f"http://{host}") for _, pattern in backend_url_patterns):
            raise not_simulated
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = account
        try:
            return Response.from_app(self._dispatcher, environ, buffered=True)
        except NotImplementedError as error:
            raise not_simulated from error


def generate_managed_password() -> str:
    """Return a password like those that AWS generates: 32 characters, including special ones."""
    # https://docs.aws.amazon.com/redshift/latest/APIReference/API_CreateCluster.html (MasterUserPassword)
    allowed = string.ascii_letters + string.digits + "!#$%&()*+,-.:;<=>?[]^_{|}~"
    return "".join(secrets.choice(allowed) for _ in range(29)) + "aA1"


def put_managed_secret(secret: ManagedSecret) -> str:
    """Store the password in Secrets Manager, as AWS does, and return the secret's ARN."""
    value = json.dumps({"username": secret.username, "password": secret.password})
    backend = _backend("secretsmanager")[secret.account][secret.region]
    stored = backend.create_managed_secret("redshift", secret.name, secret_string=value, kms_key_id=secret.kms_key_id)
    return str(stored.arn)


def _backend(service: Any) -> Any:
    # moto types this as a closed list of literals and a union of two hundred backends.
    return get_backend(service)
