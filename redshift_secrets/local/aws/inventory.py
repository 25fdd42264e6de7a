"""The warehouses of one simulated AWS and their current state."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Generic, TypeVar, cast

from redshift_secrets.local.aws.arns import namespace_arn, namespace_name, warehouse_arn
from redshift_secrets.local.aws.resource_tags import MAX_TAGS, tags_problem
from redshift_secrets.local.config import Cluster, ConfigError, Warehouses, Workgroup

Config = TypeVar("Config", Cluster, Workgroup)

Scope = tuple[str, str]
"""Account and region."""


@dataclass(frozen=True)
class WarehouseState(Generic[Config]):
    """A snapshot of a warehouse: its configuration, and what has changed since the start."""

    config: Config
    arn: str
    status: str
    tags: Mapping[str, str]
    created: datetime
    secret_arn: str | None = None

    @property
    def scope(self) -> Scope:
        """The account and region in which it is visible."""
        return self.config.account, self.config.region


def to_datetime(seconds: float) -> datetime:
    """Convert seconds since the epoch to a time as AWS returns it: UTC, in whole milliseconds."""
    return datetime.fromtimestamp(int(seconds * 1000) / 1000, tz=timezone.utc)


class Inventory:
    """All warehouses by ARN. Thread-safe: returned states are immutable.

    Raises `ConfigError` for warehouses that AWS could not have: duplicate names, invalid tags, an invalid
    creation time.
    """

    def __init__(self, warehouses: Warehouses, clock: Callable[[], float]) -> None:
        self._lock = threading.Lock()
        self._states: dict[str, WarehouseState[Cluster] | WarehouseState[Workgroup]] = {}
        namespaces: set[str] = set()
        for cluster in warehouses.clusters:
            self._add(
                WarehouseState(
                    cluster, warehouse_arn(cluster), cluster.status, dict(cluster.tags), _created(cluster, clock)
                )
            )
        for group in warehouses.workgroups:
            if namespace_arn(group) in namespaces:
                raise ConfigError(f"{label(group)}: the namespace {namespace_name(group)!r} already has a workgroup")
            namespaces.add(namespace_arn(group))
            self._add(
                WarehouseState(group, warehouse_arn(group), group.status, dict(group.tags), _created(group, clock))
            )

    def clusters(self, scope: Scope) -> list[WarehouseState[Cluster]]:
        """Return the clusters of an account and region, sorted by name."""
        found = [cast("WarehouseState[Cluster]", state) for state in self._in_scope(scope, Cluster)]
        return sorted(found, key=lambda state: state.config.identifier)

    def workgroups(self, scope: Scope) -> list[WarehouseState[Workgroup]]:
        """Return the workgroups of an account and region, sorted by name."""
        found = [cast("WarehouseState[Workgroup]", state) for state in self._in_scope(scope, Workgroup)]
        return sorted(found, key=lambda state: state.config.name)

    def all(self, scope: Scope | None = None) -> list[WarehouseState[Cluster] | WarehouseState[Workgroup]]:
        """Return all warehouses, or those of one account and region, sorted by ARN."""
        with self._lock:
            states = list(self._states.values())
        return sorted((state for state in states if scope in (None, state.scope)), key=lambda state: state.arn)

    def set_status(self, arn: str, status: str) -> None:
        """Change the status of a warehouse; raises `KeyError` for an unknown ARN."""
        with self._lock:
            self._states[arn] = replace(self._states[arn], status=status)

    def remove(self, arn: str) -> None:
        """Remove a warehouse; raises `KeyError` for an unknown ARN."""
        with self._lock:
            del self._states[arn]

    def set_secret(self, arn: str, secret_arn: str) -> None:
        """Set the ARN of the secret with the managed admin password of a warehouse."""
        with self._lock:
            self._states[arn] = replace(self._states[arn], secret_arn=secret_arn)

    def secret_keys(self) -> dict[str, str | None]:
        """Return the KMS keys of the managed admin secrets by ARN, `None` for AWS's own."""
        return {
            state.secret_arn: state.config.secret_kms_key_id for state in self.all() if state.secret_arn is not None
        }

    def change_tags(self, arn: str, *, add: Mapping[str, str] | None = None, remove: list[str] | None = None) -> bool:
        """Add, replace and remove tags; returns `False`, without changes, if there would be more than AWS allows."""
        with self._lock:
            state = self._states[arn]
            tags = {key: value for key, value in {**state.tags, **(add or {})}.items() if key not in (remove or [])}
            if len(tags) > MAX_TAGS:
                return False
            self._states[arn] = replace(state, tags=tags)
            return True

    def _add(self, state: WarehouseState[Cluster] | WarehouseState[Workgroup]) -> None:
        if state.arn in self._states:
            raise ConfigError(f"{label(state.config)}: duplicate name in {' '.join(state.scope)}")
        problem = tags_problem(state.tags)
        if problem is not None or len(state.tags) > MAX_TAGS:
            raise ConfigError(f"{label(state.config)}: {problem or f'more than {MAX_TAGS} tags'}")
        self._states[state.arn] = state

    def _in_scope(self, scope: Scope, kind: type) -> list[WarehouseState[Cluster] | WarehouseState[Workgroup]]:
        return [state for state in self.all(scope) if isinstance(state.config, kind)]


def label(warehouse: Cluster | Workgroup) -> str:
    """Return how messages name a warehouse."""
    if isinstance(warehouse, Cluster):
        return f"cluster {warehouse.identifier!r}"
    return f"workgroup {warehouse.name!r}"


def _created(warehouse: Cluster | Workgroup, clock: Callable[[], float]) -> datetime:
    given = warehouse.create_time
    if given is None:
        return to_datetime(clock())
    try:
        # Python 3.10 does not parse the "Z" that AWS writes.
        parsed = datetime.fromisoformat(given.replace("Z", "+00:00"))
    except ValueError as error:
        raise ConfigError(f"{label(warehouse)}: create_time {given!r} is not an ISO 8601 time") from error
    return parsed.astimezone(timezone.utc) if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)
