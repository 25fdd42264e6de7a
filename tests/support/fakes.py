"""Fakes of time and AWS for unit tests. End-to-end tests use the laptop stand-in instead."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from redshift_secrets.errors import AwsError
from redshift_secrets.model import Credential, MintRequest, Scope, Warehouse

EPOCH = 1_800_000_000.0


class Clock:
    """Seconds since the epoch, which pass only when a test says so."""

    def __init__(self, now: float = EPOCH) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


def cluster(identifier: str = "prod", tags: dict[str, str] | None = None, **changes: object) -> Warehouse:
    """Return a cluster that accepts logins, by default tagged `airflow:conn-id = analytics`."""
    warehouse = Warehouse(
        kind="cluster",
        identifier=identifier,
        arn=f"arn:aws:redshift:eu-west-1:123456789012:cluster:{identifier}",
        account="123456789012",
        region="eu-west-1",
        status="available",
        created_at=EPOCH - 1000,
        tags=tags if tags is not None else {"airflow:conn-id": "analytics"},
        database="dev",
        host=f"{identifier}.abc.eu-west-1.redshift.amazonaws.com",
        port=5439,
    )
    return replace(warehouse, **changes)  # type: ignore[arg-type]


def workgroup(identifier: str = "adhoc", tags: dict[str, str] | None = None, **changes: object) -> Warehouse:
    """Return a Serverless workgroup that accepts logins."""
    return cluster(
        identifier,
        tags,
        kind="workgroup",
        arn=f"arn:aws:redshift-serverless:eu-west-1:123456789012:workgroup/{identifier}",
        status="AVAILABLE",
        **changes,
    )


def denied(operation: str = "redshift:DescribeClusters") -> AwsError:
    return AwsError(operation, "everything", "arn:aws:iam::1:role/x", "AccessDenied", "Not allowed.", "Allow it.")


class FakeAws:
    """An `AwsClient` that answers from lists and counts its calls.

    `failing` has the scopes that cannot be listed. While `hold` is not set, every call waits for it; with `held_scopes`, only
    the listings of these do.
    """

    def __init__(self, clock: Clock, warehouses: Sequence[Warehouse] = ()) -> None:
        self.clock = clock
        self.warehouses = list(warehouses)
        self.failing: dict[Scope, Exception] = {}
        self.mint_error: Exception | None = None
        self.calls: Counter[str] = Counter()
        self.listed: Counter[Scope] = Counter()
        self.minted: list[MintRequest] = []
        self.hold: threading.Event | None = None
        self.held_scopes: set[Scope] | None = None
        self.entered = threading.Event()
        self._lock = threading.Lock()

    def _enter(self, name: str, scope: Scope | None = None) -> int:
        with self._lock:
            self.calls[name] += 1
            number = self.calls[name]
        self.entered.set()
        if self.hold is not None and (self.held_scopes is None or scope in self.held_scopes):
            assert self.hold.wait(30)
        return number

    def unanswered(self, kind: str, region: str) -> Sequence[str]:
        return ()

    def default_region(self) -> str:
        return "eu-west-1"

    def list(self, scope: Scope, recall: Callable[[str, Callable[[], Any]], Any]) -> Sequence[Warehouse]:
        self._enter("list", scope)
        with self._lock:
            self.listed[scope] += 1
        if scope in self.failing:
            raise self.failing[scope]
        return [
            w for w in self.warehouses if (w.kind, w.region, w.role_arn) == (scope.kind, scope.region, scope.role_arn)
        ]

    def describe(self, warehouse: Warehouse) -> Warehouse:
        self._enter("describe")
        for current in self.warehouses:
            if current.arn == warehouse.arn:
                return current
        raise AwsError(
            "redshift:DescribeClusters", str(warehouse), "me", "ClusterNotFound", "It is gone.", "It was deleted."
        )

    def mint(self, request: MintRequest) -> Credential:
        number = self._enter("mint")
        if self.mint_error is not None:
            raise self.mint_error
        with self._lock:
            self.minted.append(request)
        user = f"IAM:{request.db_user}" if request.db_user else "IAMR:airflow"
        return Credential(
            user, f"password-{number}", self.clock(), self.clock() + request.duration, "arn:aws:iam::1:role/x"
        )
