"""Finds the warehouse that a stored connection connects to, by its endpoint or by what its `extra` says. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from msgspec import Struct

from redshift_secrets.airflow.stored import StoredConnection
from redshift_secrets.lookup.spec import ineligible
from redshift_secrets.model import Warehouse
from redshift_secrets.operations.migrate.hooks import (
    PORT,
    SERVED_TYPES,
    as_read_by_its_hook,
    cluster_or_workgroup,
    is_true,
    mints_for_redshift,
    split_address,
)
from redshift_secrets.settings import Settings

# https://docs.aws.amazon.com/redshift/latest/mgmt/connecting-from-psql.html and .../serverless-connecting.html
_AWS = r"\.amazonaws\.(?:com|com\.cn|eu)"
_CLUSTER_HOST = re.compile(rf"(?P<name>[^.]+)\.[^.]+\.(?P<region>[^.]+)\.redshift{_AWS}")
_WORKGROUP_HOST = re.compile(rf"(?P<name>[^.]+)\.(?P<account>\d{{12}})\.(?P<region>[^.]+)\.redshift-serverless{_AWS}")
_LIKE_REDSHIFT = re.compile(rf"\.redshift(-serverless)?{_AWS}$")


class Endpoint(Struct, frozen=True):
    """One address of a warehouse: `default`, `custom-domain`, `vpc:<name>` as tags name it, or `own` for the setting `hosts`."""

    warehouse: Warehouse
    name: str
    host: str
    port: int


class Match(Struct, frozen=True):
    """The endpoint that a stored connection connects to, or why there is none. `foreign` says that it is no Redshift at all."""

    endpoint: Endpoint | None = None
    reason: str = ""
    foreign: bool = False


class Endpoints:
    """All addresses of the warehouses that were seen. `unseen` are sentences on what could not be listed."""

    def __init__(self, warehouses: Sequence[Warehouse], settings: Settings, unseen: Sequence[str] = ()) -> None:
        self._settings = settings
        self._unseen = unseen
        self._warehouses = tuple({each.arn: each for each in reversed(warehouses)}.values())
        self._by_host: dict[str, list[Endpoint]] = {}
        for warehouse in self._warehouses:
            for endpoint in _endpoints(warehouse, settings):
                self._by_host.setdefault(normal_host(endpoint.host), []).append(endpoint)

    def match(self, stored: StoredConnection) -> Match:
        """Return the endpoint of a stored connection."""
        stored = as_read_by_its_hook(stored)
        if stored.problem is not None:
            foreign = bool(stored.conn_type) and stored.conn_type not in SERVED_TYPES
            return Match(reason=stored.problem, foreign=foreign)
        of_type = stored.conn_type in SERVED_TYPES
        found = self._by_host.get(normal_host(stored.host), []) if stored.host else []
        if len(found) > 1:
            found = [each for each in found if each.port == (stored.port or PORT)] or found
        if not found and (of_type or _is_redshift(stored.host)):
            found, reason = self._by_extra(stored)
            if not found:
                foreign = not reason and stored.conn_type != "redshift" and not _is_redshift(stored.host)
                return Match(reason=reason or self._not_seen(stored), foreign=foreign)
        if not found:
            return Match(reason=f"type {stored.conn_type}" if stored.conn_type else "it has no type", foreign=True)
        if len({each.warehouse.arn for each in found}) > 1:
            names = ", ".join(sorted({str(each.warehouse) for each in found}))
            return Match(reason=f"it may be any of {names}: its host, port and extra do not tell which")
        if not of_type:
            return Match(
                reason=f"its type is {stored.conn_type or 'missing'}, and this backend serves {' and '.join(SERVED_TYPES)} alone"
            )
        endpoint = found[0]
        why = ineligible(endpoint.warehouse, self._settings)
        return Match(reason=why) if why is not None else Match(endpoint)

    def _by_extra(self, stored: StoredConnection) -> tuple[list[Endpoint], str]:
        """The default endpoints of what `extra` names, or why there is none."""
        extra, iam = stored.extra, is_true(stored.extra.get("iam"))
        kind, identifier = cluster_or_workgroup(stored)
        named = bool(identifier)
        if not named and mints_for_redshift(stored) and not _is_redshift(stored.host):
            identifier = normal_host(stored.host).partition(".")[0]  # as both hooks do
        if not identifier or (stored.host and not iam):
            return [], ""
        identifier = identifier.lower()
        region, account = extra.get("region"), extra.get("serverless_acct_id")
        found = [
            Endpoint(each, "default", each.host or "", each.port or PORT)
            for each in self._warehouses
            if (each.kind, each.identifier.lower()) == (kind, identifier)
            and region in (None, "", each.region)
            and str(account or each.account) in (each.account, "")
        ]
        if found or (not named and "." in stored.host):  # or it is no more than the beginning of some name
            return found, ""
        where = f" in {region}" if region else ""
        return [], f"no configured account and region has a {kind} {identifier!r}{where}{self._but()}"

    def _not_seen(self, stored: StoredConnection) -> str:
        """Why the host of a connection is not among the endpoints."""
        host = normal_host(stored.host)
        if not host:
            return "it names no host, and its extra no cluster_identifier or serverless_work_group"
        parts = _WORKGROUP_HOST.fullmatch(host) or _CLUSTER_HOST.fullmatch(host)
        if parts is None:
            return (
                f"no warehouse that was seen has the host {host}{self._but()}. If it is a name of your own for one, name it in"
                f" the setting hosts"
            )
        region = parts["region"]
        seen = sorted({each.region for each in self._warehouses} | set(self._settings.regions))
        if region not in seen:
            return f"its host is in {region}, which is not searched: add it to regions, or to those of its account"
        account = parts.groupdict().get("account")
        if account is not None and account not in {each.account for each in self._warehouses}:
            return (
                f"its host is in account {account}, where nothing was seen{self._but()}. Add a role of it to accounts"
            )
        same = [each for each in self._warehouses if (each.identifier, each.region) == (parts["name"], region)]
        hint = f"; {same[0]} has another endpoint, {same[0].host}" if same else ""
        return (
            f"no warehouse that was seen has the host {host}{hint}{self._but()}. It was deleted, or is in an account that is"
            f" not among accounts"
        )

    def _but(self) -> str:
        return f" (but {'; '.join(self._unseen)})" if self._unseen else ""


def normal_host(host: str) -> str:
    """Return a host name as it is compared and shown: in lower case, without a scheme, a login, a port or the dot at its end."""
    return split_address(host)[0]


def _is_redshift(host: str) -> bool:
    return _LIKE_REDSHIFT.search(normal_host(host)) is not None


def _endpoints(warehouse: Warehouse, settings: Settings) -> Iterator[Endpoint]:
    own = settings.hosts.get(warehouse.arn) or settings.hosts.get(warehouse.identifier)
    port = warehouse.port or PORT
    if own is not None:
        yield Endpoint(warehouse, "own", own.host, own.port or port)
    if warehouse.host:
        yield Endpoint(warehouse, "default", warehouse.host, port)
    if warehouse.custom_domain:
        yield Endpoint(warehouse, "custom-domain", warehouse.custom_domain, port)
    for each in warehouse.vpc_endpoints:
        yield Endpoint(warehouse, f"vpc:{each.name}", each.host, each.port)
