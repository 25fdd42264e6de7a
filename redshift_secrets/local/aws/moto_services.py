"""The services that moto simulates, mounted in process.

moto keeps what it knows per process, not per instance: of several simulated AWS that run in one process at the
same time, all see the same Secrets Manager, IAM and so on. The first one to start finds them empty.
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
from redshift_secrets.local.aws.requests import Envelope

_OURS = ("redshift", "redshift-serverless", "resourcegroupstaggingapi")
# moto answers these too, with keys that only moto knows and every service of ours would refuse.
_FOREIGN_KEYS = (
    "sts:AssumeRoleWithSAML",
    "sts:AssumeRoleWithWebIdentity",
    "sts:GetFederationToken",
    "sts:GetSessionToken",
    "iam:CreateAccessKey",
)
_RESET_AT_START = ("secretsmanager", "iam", "sts", "redshift-data")

_running_lock = threading.Lock()
_running: set[int] = set()


@dataclass(frozen=True)
class ManagedSecret:
    """An admin password that AWS looks after."""

    name: str
    account: str
    region: str
    username: str
    password: str = field(repr=False)


class MotoServices:
    """moto behind our door."""

    def __init__(self) -> None:
        self._dispatcher = DomainDispatcherApplication(create_backend_app)

    def start(self) -> None:
        """Forget what moto remembers from whoever used it before in this process and is gone."""
        with _running_lock:
            if not _running:
                for service in _RESET_AT_START:
                    _backend(service).reset()
            _running.add(id(self))

    def stop(self) -> None:
        """Give moto free for the next one."""
        with _running_lock:
            _running.discard(id(self))

    def answer(self, envelope: Envelope, account: str) -> Response:
        """moto's answer to a request, as seen from `account`; raises `NotSimulatedError` for what moto has not."""
        missing = NotSimulatedError(f"The simulated AWS does not implement {envelope.name}")
        if envelope.service in _OURS or envelope.name in _FOREIGN_KEYS:
            # moto's own Redshift has clusters of its own; an operation of it would talk about other warehouses.
            raise missing
        environ: dict[str, Any] = envelope.request.environ
        host = self._dispatcher.infer_service_region_host(environ, environ.get("PATH_INFO", ""))
        if host is None or not any(pattern.match(f"http://{host}") for _, pattern in backend_url_patterns):
            raise missing
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = account
        try:
            return Response.from_app(self._dispatcher, environ, buffered=True)
        except NotImplementedError as error:
            raise missing from error


def managed_password() -> str:
    """A password like those that AWS manages: 32 characters, special ones among them."""
    # https://docs.aws.amazon.com/redshift/latest/APIReference/API_CreateCluster.html (MasterUserPassword)
    allowed = string.ascii_letters + string.digits + "!#$%&()*+,-.:;<=>?[]^_{|}~"
    return "".join(secrets.choice(allowed) for _ in range(29)) + "aA1"


def put_managed_secret(secret: ManagedSecret) -> str:
    """Put the password where AWS keeps it, and return the secret's ARN."""
    value = json.dumps({"username": secret.username, "password": secret.password})
    backend = _backend("secretsmanager")[secret.account][secret.region]
    stored = backend.create_managed_secret("redshift", secret.name, secret_string=value)
    return str(stored.arn)


def _backend(service: Any) -> Any:
    # moto types this with a closed list of literal names and a union of two hundred backends.
    return get_backend(service)
