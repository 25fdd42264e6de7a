"""Warehouses in, the listing of a scope out: connection specs by conn_id. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

from msgspec import Struct

from redshift_secrets.errors import one_line
from redshift_secrets.model import ConnectionSpec, Warehouse
from redshift_secrets.settings import Settings

Specs = Mapping[str, tuple[ConnectionSpec, ...]]


class Listing(Struct, frozen=True):
    """The specs of one scope by conn_id, all of them or those of some conn_ids.

    `ignored` says which warehouses may claim nothing on this site, `problems` are tags that cannot be read or have no effect,
    `unread` says of which warehouses it is not known what they claim.
    """

    specs: Specs
    ignored: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


class ClaimChange(Struct, frozen=True):
    """A conn_id that other warehouses of a scope claim than in the listing before: those that no longer do, and those that
    now do."""

    conn_id: str
    lost: tuple[Warehouse, ...]
    gained: tuple[Warehouse, ...]

    @property
    def kind(self) -> str:
        """`appeared`, `vanished` or `moved`."""
        if self.lost and self.gained:
            return "moved"
        return "appeared" if self.gained else "vanished"

    def __str__(self) -> str:
        lost, gained = map(str, self.lost), map(str, self.gained)
        if {each.arn for each in self.lost} & {each.arn for each in self.gained}:
            lost, gained = map(_with_creation, self.lost), map(_with_creation, self.gained)
        of, to = " and ".join(lost), " and ".join(gained)
        if self.kind == "moved":
            return f"connection {self.conn_id!r}: the claim moved from {of} to {to}"
        if self.kind == "appeared":
            return f"connection {self.conn_id!r} is now claimed by {to}"
        return f"connection {self.conn_id!r} is no longer claimed by {of}"


def claim_changes(before: Specs, now: Specs) -> list[ClaimChange]:
    """Return what has changed between two listings of one scope. A warehouse that was deleted and created again under its
    name is another one."""
    changes = []
    for conn_id in sorted({*before, *now}):
        old, new = ([spec.warehouse for spec in specs.get(conn_id, ())] for specs in (before, now))
        lost = tuple(each for each in old if not any(_is_same(each, other) for other in new))
        gained = tuple(each for each in new if not any(_is_same(each, other) for other in old))
        if lost or gained:
            changes.append(ClaimChange(conn_id, lost, gained))
    return changes


def _is_same(one: Warehouse, other: Warehouse) -> bool:
    times = {one.created_at, other.created_at} - {float("inf")}  # while it is being created, it has no time
    return one.arn == other.arn and len(times) < 2


def _with_creation(warehouse: Warehouse) -> str:
    if warehouse.created_at == float("inf"):
        return f"{warehouse} in creation"
    created = datetime.fromtimestamp(warehouse.created_at, timezone.utc)
    return f"{warehouse} created at {created:%Y-%m-%dT%H:%M:%SZ}"


def build_listing(warehouses: Sequence[Warehouse], settings: Settings) -> Listing:
    """Return the listing of these warehouses."""
    # Few processes list; those that do have loaded it beside the client of AWS.
    from redshift_secrets.lookup import tags
    from redshift_secrets.lookup.spec import build_spec, ineligible

    specs: dict[str, list[ConnectionSpec]] = {}
    ignored: list[str] = []
    problems: list[str] = []
    unread: list[str] = []
    for warehouse in warehouses:
        reason = ineligible(warehouse, settings)
        if reason is not None:
            ignored.append(one_line(reason))
            continue
        for what, why in warehouse.unknown.items():
            if what in ("identity", "tags"):
                problems.append(one_line(f"{why} (on {warehouse})"))
                unread += problems[-1:] if what == "tags" else ()
        conn_ids, wrong = tags.claimed(warehouse.tags, settings.tag_prefix)
        problems += [one_line(f"{problem} (on {warehouse})") for problem in wrong]
        for conn_id in conn_ids:
            if not settings.looks_up(conn_id):
                problems.append(
                    f"tag {settings.tag_prefix}{tags.MARKER}: {_why_not(conn_id, settings)} (on {warehouse})"
                )
                continue
            specs.setdefault(conn_id, []).append(build_spec(warehouse, conn_id, settings))
    found = {conn_id: tuple(claims) for conn_id, claims in specs.items()}
    return Listing(found, tuple(ignored), tuple(problems), tuple(unread))


def _why_not(conn_id: str, settings: Settings) -> str:
    """Return why no warehouse can claim a conn_id that is well formed."""
    if settings.managed_conn_ids is not None and not settings.managed_conn_ids.match(conn_id):
        return f"{conn_id!r} is outside managed_conn_ids, so no tag can claim it"
    return f"{conn_id!r} does not match connections_lookup_pattern, so it is never looked up"
