"""The warehouses of one simulated AWS, as they are right now."""

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
class Live(Generic[Config]):
    """A warehouse at one moment: what the configuration says, and what has changed since."""

    config: Config
    arn: str
    status: str
    tags: Mapping[str, str]
    created: datetime
    secret_arn: str | None = None

    @property
    def scope(self) -> Scope:
        """Where it is visible."""
        return self.config.account, self.config.region


def moment(seconds: float) -> datetime:
    """Seconds since the epoch as AWS writes them: UTC, whole milliseconds."""
    return datetime.fromtimestamp(int(seconds * 1000) / 1000, tz=timezone.utc)


class Inventory:
    """Every warehouse by its ARN. Safe among threads: what it hands out never changes.

    Raises `ConfigError` for warehouses that AWS could not have: two of one name, tags that it refuses,
    a creation time that is none.
    """

    def __init__(self, warehouses: Warehouses, clock: Callable[[], float]) -> None:
        self._lock = threading.Lock()
        self._live: dict[str, Live[Cluster] | Live[Workgroup]] = {}
        namespaces: set[str] = set()
        for cluster in warehouses.clusters:
            self._add(Live(cluster, warehouse_arn(cluster), cluster.status, *_given(cluster, clock)))
        for group in warehouses.workgroups:
            if namespace_arn(group) in namespaces:
                raise ConfigError(f"{label(group)}: the namespace {namespace_name(group)!r} has a workgroup already")
            namespaces.add(namespace_arn(group))
            self._add(Live(group, warehouse_arn(group), group.status, *_given(group, clock)))

    def clusters(self, scope: Scope) -> list[Live[Cluster]]:
        """The clusters of an account and region, by name."""
        found = [cast("Live[Cluster]", live) for live in self._of(scope, Cluster)]
        return sorted(found, key=lambda live: live.config.identifier)

    def workgroups(self, scope: Scope) -> list[Live[Workgroup]]:
        """The workgroups of an account and region, by name."""
        found = [cast("Live[Workgroup]", live) for live in self._of(scope, Workgroup)]
        return sorted(found, key=lambda live: live.config.name)

    def all(self, scope: Scope | None = None) -> list[Live[Cluster] | Live[Workgroup]]:
        """Everything (of an account and region), by ARN."""
        with self._lock:
            live = list(self._live.values())
        return sorted((one for one in live if scope in (None, one.scope)), key=lambda one: one.arn)

    def find(self, arn: str, scope: Scope) -> Live[Cluster] | Live[Workgroup] | None:
        """The warehouse with this ARN, if it is visible in `scope`."""
        return next((live for live in self.all(scope) if live.arn == arn), None)

    def set_status(self, arn: str, status: str) -> None:
        """Give a warehouse another status; raises `KeyError` for an ARN that is none of ours."""
        with self._lock:
            self._live[arn] = replace(self._live[arn], status=status)

    def remove(self, arn: str) -> None:
        """Forget a warehouse; raises `KeyError` for an ARN that is none of ours."""
        with self._lock:
            del self._live[arn]

    def set_secret(self, arn: str, secret_arn: str) -> None:
        """Note where the managed admin password of a warehouse is kept."""
        with self._lock:
            self._live[arn] = replace(self._live[arn], secret_arn=secret_arn)

    def change_tags(self, arn: str, *, add: Mapping[str, str] | None = None, remove: list[str] | None = None) -> bool:
        """Add or replace and remove tags; `False`, and nothing is changed, if there would be more than AWS allows."""
        with self._lock:
            live = self._live[arn]
            tags = {key: value for key, value in {**live.tags, **(add or {})}.items() if key not in (remove or [])}
            if len(tags) > MAX_TAGS:
                return False
            self._live[arn] = replace(live, tags=tags)
            return True

    def _add(self, live: Live[Cluster] | Live[Workgroup]) -> None:
        if live.arn in self._live:
            raise ConfigError(f"{label(live.config)}: there are two of this name in {' '.join(live.scope)}")
        problem = tags_problem(live.tags)
        if problem is not None or len(live.tags) > MAX_TAGS:
            raise ConfigError(f"{label(live.config)}: {problem or f'more than {MAX_TAGS} tags'}")
        self._live[live.arn] = live

    def _of(self, scope: Scope, kind: type) -> list[Live[Cluster] | Live[Workgroup]]:
        return [live for live in self.all(scope) if isinstance(live.config, kind)]


def label(warehouse: Cluster | Workgroup) -> str:
    """What to call a warehouse in a message."""
    if isinstance(warehouse, Cluster):
        return f"cluster {warehouse.identifier!r}"
    return f"workgroup {warehouse.name!r}"


def _given(warehouse: Cluster | Workgroup, clock: Callable[[], float]) -> tuple[Mapping[str, str], datetime]:
    return dict(warehouse.tags), _created(warehouse, clock)


def _created(warehouse: Cluster | Workgroup, clock: Callable[[], float]) -> datetime:
    given = warehouse.create_time
    if given is None:
        return moment(clock())
    try:
        # Python 3.10 does not read the "Z" that AWS writes.
        parsed = datetime.fromisoformat(given.replace("Z", "+00:00"))
    except ValueError as error:
        raise ConfigError(f"{label(warehouse)}: create_time {given!r} is not an ISO 8601 time") from error
    return parsed.astimezone(timezone.utc) if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)
