"""Which warehouses are seen where, which of them are tagged, and what is wrong with the tags and claims."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from redshift_secrets.lookup import tags
from redshift_secrets.lookup.reasons import advice_on_state
from redshift_secrets.lookup.spec import build_spec, ineligible
from redshift_secrets.model import ConnectionSpec, Scope, Warehouse
from redshift_secrets.operations.doctor.verdicts import Status, Verdict, counted, names, verdict
from redshift_secrets.operations.migrate.plan import managed_pattern
from redshift_secrets.settings import Settings

_NEARLY = 0.84
"""How alike two keys are, letters and digits alone, that are taken for one misspelled: a letter more, less, other or two swapped."""


class Seen(Struct, frozen=True):
    """All warehouses of a site by scope, and the connections that they claim, with and without errors."""

    warehouses: Mapping[Scope, Sequence[Warehouse]]
    specs: Mapping[str, Sequence[ConnectionSpec]]
    complete: bool
    """Whether every scope could be listed."""

    @property
    def serving(self) -> list[ConnectionSpec]:
        """The connections that can be logged in to as far as tags and states say."""
        return [spec for specs in self.specs.values() for spec in specs if not spec.errors and spec.warehouse.can_serve]


def see(settings: Settings, listed: Mapping[Scope, Sequence[Warehouse] | Exception]) -> Seen:
    """Return what the listings say."""
    warehouses = {scope: found for scope, found in listed.items() if not isinstance(found, Exception)}
    specs: dict[str, dict[str, ConnectionSpec]] = {}
    for warehouse in _each(warehouses):
        if ineligible(warehouse, settings) is not None:
            continue
        for conn_id in tags.claimed(warehouse.tags, settings.tag_prefix)[0]:
            if settings.looks_up(conn_id):
                specs.setdefault(conn_id, {}).setdefault(warehouse.arn, build_spec(warehouse, conn_id, settings))
    return Seen(
        warehouses,
        {conn_id: tuple(found.values()) for conn_id, found in specs.items()},
        complete=len(warehouses) == len(listed),
    )


def seen_verdicts(settings: Settings, seen: Seen, identity: Mapping[str | None, str]) -> list[Verdict]:
    """Say for each region and account how many warehouses are there and how many carry the marker."""
    marker = settings.tag_prefix + tags.MARKER
    places: dict[tuple[str, str | None], list[Warehouse]] = {}
    for scope, found in seen.warehouses.items():
        places.setdefault((scope.region, scope.role_arn), []).extend(found)
    tagged_anywhere = any(marker in each.tags for each in _each(seen.warehouses))
    verdicts, empty = [], []
    for (region, role), found in places.items():
        if not found:
            empty.append(f"{region} as {identity[role]}")
            continue
        kinds = [scope.kind for scope in seen.warehouses if (scope.region, scope.role_arn) == (region, role)]
        numbers = [counted(sum(each.kind == kind for each in found), kind) for kind in dict.fromkeys(kinds)]
        tagged = sum(marker in each.tags for each in found)
        status: Status = "ok" if tagged else "warning"
        said = f"in {region} as {identity[role]}: {' and '.join(numbers)} seen, {tagged} {'carries' if tagged == 1 else 'carry'} {marker}"
        verdicts.append(verdict("warehouses", status, said, map(str, found)))
    if empty:
        verdicts.append(verdict("warehouses", "ok", f"none in {names(empty)}", empty))
    if seen.complete and not tagged_anywhere:
        said = (
            f"no warehouse carries the tag {marker}, so this site serves no connection: `redshift-secrets tag` adds it"
        )
        verdicts.append(verdict("warehouses", "problem", said))
    idle: dict[str, list[Warehouse]] = {}
    for each in _each(seen.warehouses):
        if marker in each.tags and not each.can_serve:
            state = each.status if each.host else f"{each.status}, without an endpoint"
            idle.setdefault(f"{state}, so its conn_ids are refused. {advice_on_state(each)}", []).append(each)
    for said, same in idle.items():
        verdicts.append(verdict("warehouses", "problem", f"{names(list(map(str, same)))}: {said}", map(str, same)))
    return verdicts


def tag_verdicts(settings: Settings, seen: Seen) -> list[Verdict]:
    """Say which tags cannot be read, have no effect, or are nearly one that would."""
    problems: dict[tuple[Status, str], list[str]] = {}
    read = 0
    for warehouse in _each(seen.warehouses):
        for status, problem in _problems(warehouse, settings):
            problems.setdefault((status, problem), []).append(str(warehouse))
        if ineligible(warehouse, settings) is None:
            read += bool(tags.claimed(warehouse.tags, settings.tag_prefix)[0])
    for specs in seen.specs.values():
        for spec in specs:
            where = str(spec.warehouse)
            for problem in (*spec.errors, *spec.warnings):
                problems.setdefault(("problem", problem.removesuffix(f" (on {where})")), []).append(where)
    verdicts = [
        verdict("tags", status, f"{said} (on {names(where)})", where) for (status, said), where in problems.items()
    ]
    if not verdicts and read:
        verdicts.append(verdict("tags", "ok", f"those of {counted(read, 'warehouse')} are understood"))
    return verdicts


def claim_verdicts(settings: Settings, seen: Seen) -> list[Verdict]:
    """Say which conn_ids are claimed twice, or are outside the settings, and whether those bound claims at all."""
    verdicts = [*_conflicts(settings, seen), *_outside(settings, seen)]
    ignored: dict[str, list[str]] = {}
    for warehouse in _each(seen.warehouses):
        reason = ineligible(warehouse, settings)
        if reason is not None and settings.tag_prefix + tags.MARKER in warehouse.tags:
            ignored.setdefault(reason.removeprefix(f"{warehouse} is ignored: "), []).append(str(warehouse))
    for reason, where in ignored.items():
        said = f"{counted(len(where), 'tagged warehouse')} ignored ({names(where)}): {reason}"
        verdicts.append(verdict("claims", "warning", said, where))
    if settings.managed_conn_ids is None:
        known = sorted(seen.specs)
        example = managed_pattern(known[:3]) or "^dw_"
        if len(known) > 3:
            example = example.replace(")$", "|...)$")
        verdicts.append(
            verdict(
                "claims",
                "warning",
                "managed_conn_ids is not set, so anybody who can tag a warehouse can claim any conn_id, aws_default too. Set it to the"
                f" conn_ids that belong to this backend, such as {json.dumps(example)}",
            )
        )
    if not any(each.status == "problem" for each in verdicts) and seen.specs:
        verdicts.insert(0, verdict("claims", "ok", f"{counted(len(seen.specs), 'conn_id')}, each of one warehouse"))
    return verdicts


def _conflicts(settings: Settings, seen: Seen) -> Iterator[Verdict]:
    groups: dict[tuple[str, ...], list[str]] = {}
    for conn_id, found in seen.specs.items():
        specs = [spec for spec in found if not spec.warehouse.is_being_deleted] or list(found)
        rivals = [
            str(one.warehouse)
            for one in specs
            if any(other is not one and (None in (one.team, other.team) or one.team == other.team) for other in specs)
        ]
        if rivals:
            groups.setdefault(tuple(rivals), []).append(conn_id)
    for rivals_of_all, conn_ids in groups.items():
        said = f"{_quoted(conn_ids)} claimed by {' and '.join(rivals_of_all)}"
        if settings.on_conflict == "oldest":
            yield verdict(
                "claims", "warning", f"{said}: on_conflict = oldest gives it to the one created first", conn_ids
            )
        else:
            said += ", so it is refused. Remove the tag from all but one, or set on_conflict = oldest"
            yield verdict("claims", "problem", said, conn_ids)


def _outside(settings: Settings, seen: Seen) -> Iterator[Verdict]:
    managed = settings.managed_conn_ids
    found: dict[str, list[tuple[str, str]]] = {}
    for warehouse in _each(seen.warehouses):
        if ineligible(warehouse, settings) is not None:
            continue
        for conn_id in tags.claimed(warehouse.tags, settings.tag_prefix)[0]:
            if not settings.looks_up(conn_id):
                by_managed = managed is not None and not managed.match(conn_id)
                setting = "managed_conn_ids" if by_managed else "connections_lookup_pattern"
                found.setdefault(setting, []).append((conn_id, str(warehouse)))
    for setting, claims in found.items():
        conn_ids = [conn_id for conn_id, _ in claims]
        said = (
            f"{_quoted(conn_ids)} outside {setting}, so the claim of {names([where for _, where in claims])} has no effect."
            f" Add it to {setting}, or remove it from the tag"
        )
        yield verdict("claims", "problem", said, conn_ids)


def _problems(warehouse: Warehouse, settings: Settings) -> Iterator[tuple[Status, str]]:
    """What is wrong with the tags of a warehouse as a whole."""
    for what in ("identity", "tags"):
        if what in warehouse.unknown:
            yield "problem", warehouse.unknown[what]
    if ineligible(warehouse, settings) is not None:
        return
    prefix, marker = settings.tag_prefix, settings.tag_prefix + tags.MARKER
    alike = [key for key in sorted(warehouse.tags) if marker not in warehouse.tags and _alike(key, marker)]
    for key in alike:
        # Outside the prefix it may be another program's.
        status: Status = "problem" if key.lower().startswith(prefix.lower()) else "warning"
        yield status, f"tag {key} looks like {marker}, without which a warehouse claims no conn_id: rename it"
    for problem in tags.claimed(warehouse.tags, prefix)[1]:
        if not any(problem.startswith(f"tag {key}: ") for key in alike):
            yield "problem", problem


def _alike(key: str, marker: str) -> bool:
    one, other = (re.sub(r"[\W_]", "", each.lower()) for each in (key, marker))
    return difflib.SequenceMatcher(None, one, other).ratio() >= _NEARLY


def _quoted(conn_ids: Sequence[str]) -> str:
    return names(list(map(repr, conn_ids)))


def _each(warehouses: Mapping[Scope, Sequence[Warehouse]]) -> Iterable[Warehouse]:
    """Each warehouse once, also where two roles see it."""
    return {each.arn or str(each): each for found in warehouses.values() for each in found}.values()
