"""Changes which conn_ids a warehouse claims, and what its tags say of them: checks, shows the difference, writes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from redshift_secrets.errors import RedshiftSecretsError
from redshift_secrets.lookup import tags
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.lookup.catalog import scopes_to_list
from redshift_secrets.lookup.reasons import causes
from redshift_secrets.lookup.spec import build_spec, ineligible
from redshift_secrets.model import Scope, Warehouse
from redshift_secrets.operations.inspect import places
from redshift_secrets.settings import Settings, values

if TYPE_CHECKING:
    from redshift_secrets.aws.tagging import Tagging

_MOST_TAGS = 50
"""https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html; those of AWS itself do not count."""


class TagError(RedshiftSecretsError):
    """What was asked for cannot be done; nothing was written."""


class PartlyWrittenError(RedshiftSecretsError):
    """The first of two calls was answered and the second was not, so that a part of the change holds."""


class TagChange(Struct, frozen=True):
    """Tags to set and keys to remove on one warehouse, with what was there before. `errors` keep it from being written, `warnings`
    are for whoever decides."""

    warehouse: Warehouse
    written: Mapping[str, str]
    removed: tuple[str, ...]
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def after(self) -> dict[str, str]:
        """All tags of the warehouse once this is written."""
        return {key: value for key, value in {**self.warehouse.tags, **self.written}.items() if key not in self.removed}

    def difference(self) -> list[str]:
        """Return a line for each tag that changes, as in a diff."""
        lines = []
        for key in sorted({*self.written, *self.removed}):
            if key in self.warehouse.tags:
                lines.append(f"- {key} = {self.warehouse.tags[key]}")
            if key in self.written:
                lines.append(f"+ {key} = {self.written[key]}")
        return lines


def find_warehouse(settings: Settings, aws: Tagging, name: str) -> Warehouse:
    """Return the one warehouse of this identifier or ARN, with or without tags; raises `TagError`, or `AwsError`."""
    home = settings.regions or ((settings.region_name,) if settings.region_name else (aws.default_region(),))
    found: dict[str, Warehouse] = {}
    failed: list[tuple[Scope, RedshiftSecretsError]] = []
    scopes = scopes_to_list(settings, home)
    for scope in scopes:
        try:
            warehouse = aws.find(name, scope)
        except RedshiftSecretsError as error:
            failed.append((scope, error))
            continue
        if warehouse is not None:
            found.setdefault(warehouse.arn, warehouse)
    if len(found) == 1 and failed and not name.startswith("arn:"):
        raise TagError(
            f"{name!r} is the name of {next(iter(found))}, and whether of another warehouse too is not known; say which by its ARN:"
            f" {'; '.join(causes(failed))}"
        )
    if len(found) > 1:
        raise TagError(f"{name!r} is the name of {len(found)} warehouses, say which by its ARN: {', '.join(found)}")
    if not found:
        if failed:
            raise TagError(f"there is no warehouse {name!r}, as far as can be seen: {'; '.join(causes(failed))}")
        raise TagError(f"there is no warehouse {name!r} in {places(scopes)}{_nearest(settings, scopes, name)}")
    return next(iter(found.values()))


def _nearest(settings: Settings, scopes: Sequence[Scope], name: str) -> str:
    """Say which warehouse may be meant, or where one of this ARN would have to be looked for, as far as they can be listed."""
    from redshift_secrets.aws.client import AwsClient  # loads boto3

    is_arn = name.startswith("arn:")
    region, account = [*name.split(":"), *[""] * 5][3:5] if is_arn else ("", "")
    if region and region not in {scope.region for scope in scopes}:
        return f": it would be in {region}, which is not searched; add that to regions, or to those of its account"
    aws, seen = AwsClient(settings), list[Warehouse]()
    for scope in scopes:
        with suppress(RedshiftSecretsError):
            seen += aws.list_all(scope)
    if seen and account and account not in {each.account for each in seen}:
        return f": it would be in account {account}, where nothing was seen; add a role of it to accounts"
    if not is_arn:
        return values.nearest(name, [each.identifier for each in seen])
    same_region = {each.identifier: each.arn for each in seen if each.region == region}
    found = values.nearest_name(re.split("[:/]", name)[-1], same_region)
    return f" (did you mean {same_region[found]!r}?)" if found else ""


def plan_with_endpoints(
    settings: Settings,
    warehouse: Warehouse,
    plan: Callable[[Settings, Warehouse], TagChange],
) -> TagChange:
    """Return the change that `plan` makes of a warehouse, with its VPC endpoints where a tag selects one of them afterwards.

    Raises as `plan` does, or `AwsError`.
    """
    change = plan(settings, warehouse)
    if not any(value.strip().startswith("vpc:") for value in change.after.values()):
        return change
    from redshift_secrets.aws.client import AwsClient  # loads boto3

    listed = AwsClient(settings).list_all(Scope(warehouse.kind, warehouse.region, warehouse.role_arn))
    return plan(settings, next((each for each in listed if each.arn == warehouse.arn), warehouse))


def plan_tags(
    settings: Settings, warehouse: Warehouse, conn_ids: Sequence[str], fields: Mapping[str, str]
) -> TagChange:
    """Return the change with which a warehouse claims these conn_ids too, with these fields, by their names after the prefix.

    Without conn_ids the fields are for all that it claims. With some, they are for these alone where it claims others, so that
    those stay as they are. Raises `TagError` for what no tag can say.
    """
    prefix = settings.tag_prefix
    marker = prefix + tags.MARKER
    known, _ = tags.claimed(warehouse.tags, prefix)
    claimed = tuple(dict.fromkeys([*warehouse.tags.get(marker, "").split(), *conn_ids]))
    if not claimed:
        raise TagError(f"{warehouse} claims no conn_id yet: add --conn-id")
    wanted = {marker: " ".join(claimed)} if conn_ids else {}
    for name, value in fields.items():
        for key in _keys(prefix + name, conn_ids, set(known) <= set(conn_ids), warehouse.tags):
            wanted[key] = value
    written = {key: value for key, value in wanted.items() if warehouse.tags.get(key) != value}
    return check_change(settings, TagChange(warehouse, written, ()), conn_ids or known)


def plan_untag(settings: Settings, warehouse: Warehouse, conn_ids: Sequence[str]) -> TagChange:
    """Return the change with which a warehouse claims these conn_ids no more, by default none; raises `TagError`."""
    prefix = settings.tag_prefix
    marker = prefix + tags.MARKER
    claimed = warehouse.tags.get(marker, "").split()
    ours = [key for key in warehouse.tags if key.startswith(prefix)]
    known = {
        *claimed,
        *(key.partition("/")[2] for key in ours),
    }  # an earlier attempt may have ended between its two calls
    missing = [conn_id for conn_id in conn_ids if conn_id not in known]
    if missing:
        hint = values.nearest(missing[0], claimed)
        raise TagError(f"{warehouse} does not claim {missing[0]!r}{hint}")
    left = [conn_id for conn_id in claimed if conn_id not in conn_ids] if conn_ids else []
    if not left:  # fields of no connection are of no use
        return check_change(settings, TagChange(warehouse, {}, tuple(ours)), ())
    gone = tuple(key for key in ours if key.partition("/")[2] in conn_ids)
    written = {marker: " ".join(left)} if left != claimed else {}
    return check_change(settings, TagChange(warehouse, written, gone), ())


def warnings_of_claims(settings: Settings, broker: Broker, warehouse: Warehouse, conn_ids: Sequence[str]) -> list[str]:
    """Return what keeps these conn_ids from being served although this warehouse claims them: the settings, or another claim."""
    warnings = [
        f"{conn_id!r} is outside managed_conn_ids or connections_lookup_pattern: this site ignores the claim"
        for conn_id in conn_ids
        if not settings.looks_up(conn_id)
    ]
    try:
        snapshot = broker.inventory.snapshot()
    except RedshiftSecretsError as error:
        return [*warnings, f"whether another warehouse claims the same is not known: {error}"]
    for conn_id in conn_ids:
        others = [
            str(spec.warehouse) for spec in snapshot.specs.get(conn_id, ()) if spec.warehouse.arn != warehouse.arn
        ]
        if others:
            warnings.append(f"{conn_id!r} is also claimed by {', '.join(others)}")
    warnings += [f"whether another warehouse claims the same is not known: {unseen}" for unseen in snapshot.unseen]
    return warnings


def _keys(key: str, conn_ids: Sequence[str], alone: bool, present: Mapping[str, str]) -> list[str]:
    """The keys under which a field is written: one for all, or one for each conn_id, which beats that for all."""
    own = {f"{key}/{conn_id}" for conn_id in conn_ids}
    if alone or not conn_ids:
        return [key, *sorted(own & present.keys())]
    return sorted(own)


def check_change(settings: Settings, change: TagChange, conn_ids: Sequence[str]) -> TagChange:
    """Return the change with what is wrong with it, by the rules of lookups and those of AWS."""
    before, after = change.warehouse, replace(change.warehouse, tags=change.after)
    errors: list[str] = []
    for key, value in change.written.items():
        if len(value) > values.LONGEST_TAG_VALUE:
            errors.append(f"tag {key} may have at most {values.LONGEST_TAG_VALUE} characters, and would have more")
            continue
        for check, text in ((values.tag_key, key), (values.tag_value, value)):
            try:
                check(text)
            except ValueError as error:
                errors.append(f"tag {key} {error}")
    number = sum(not key.lower().startswith("aws:") for key in after.tags)
    if number > _MOST_TAGS:
        errors.append(f"{before} would have {number} tags, and AWS allows {_MOST_TAGS}")
    claimed, problems = tags.claimed(after.tags, settings.tag_prefix)
    claimed_before, problems_before = tags.claimed(before.tags, settings.tag_prefix)
    errors += [problem for problem in problems if problem not in problems_before] if change.written else []
    warnings = []
    for conn_id in claimed:
        spec = build_spec(after, conn_id, settings)
        known = build_spec(before, conn_id, settings) if conn_id in claimed_before else None
        errors += [each for each in spec.errors if conn_id in conn_ids or known is None or each not in known.errors]
        warnings += [each for each in spec.warnings if known is None or each not in known.warnings]
    reason = ineligible(after, settings)
    if reason is not None and change.written:
        warnings.append(reason)
    return replace(change, errors=tuple(dict.fromkeys(errors)), warnings=tuple(dict.fromkeys(warnings)))


def as_code(change: TagChange, form: str) -> str:
    """Return a change as `aws` commands, or the tags afterwards, but those of AWS itself, as `terraform` or `cloudformation` has them."""
    after = sorted((key, value) for key, value in change.after.items() if not key.lower().startswith("aws:"))
    if form == "terraform":
        pairs = [(_hcl(key), _hcl(value)) for key, value in after]
        width = max((len(key) for key, _ in pairs), default=0)
        lines = [f"  {key.ljust(width)} = {value}" for key, value in pairs]
        return "\n".join([f"# {change.warehouse}", "tags = {", *lines, "}"])
    if form == "cloudformation":
        items = [f"  - Key: {_quoted(key)}\n    Value: {_quoted(value)}" for key, value in after]
        return "\n".join([f"# {change.warehouse}", "Tags:" if items else "Tags: []", *items])
    is_cluster = change.warehouse.kind == "cluster"
    arn = shlex.quote(change.warehouse.arn)
    place = f"{'--resource-name' if is_cluster else '--resource-arn'} {arn} --region {change.warehouse.region}"
    service = "redshift" if is_cluster else "redshift-serverless"
    commands = []
    if change.written:
        names = ("Key", "Value") if is_cluster else ("key", "value")
        given = json.dumps([dict(zip(names, pair, strict=True)) for pair in sorted(change.written.items())])
        verb = "create-tags" if is_cluster else "tag-resource"
        commands.append(f"aws {service} {verb} {place} --tags {shlex.quote(given)}")
    if change.removed:
        verb = "delete-tags" if is_cluster else "untag-resource"
        commands.append(f"aws {service} {verb} {place} --tag-keys {' '.join(map(shlex.quote, change.removed))}")
    return "\n".join(commands)


def _quoted(text: str) -> str:
    """A text in the quotes of Terraform and YAML, which know no pairs of surrogates as JSON has them."""
    return "".join(
        letter if letter.isascii() else f"\\u{ord(letter):04x}" if letter <= "\uffff" else f"\\U{ord(letter):08x}"
        for letter in json.dumps(text, ensure_ascii=False)
    )


def _hcl(text: str) -> str:
    """A text as Terraform has it, which would take some for a template."""
    return _quoted(text).replace("${", "$${").replace("%{", "%%{")


def check_unchanged(settings: Settings, aws: Tagging, name: str, change: TagChange) -> None:
    """Raise `TagError` where somebody else has changed the tags of the warehouse since the change was planned, which would be lost; or
    `AwsError`. AWS has no condition for that in the call itself. `name` is the one that it was found by."""
    before = change.warehouse
    now = aws.find(name, Scope(before.kind, before.region, before.role_arn))
    if now is None or now.arn != before.arn:
        raise TagError(f"{before} is not there any more; nothing was written")
    ours, theirs = (
        {key: value for key, value in each.tags.items() if key.startswith(settings.tag_prefix)}
        for each in (before, now)
    )
    if ours != theirs:
        changed = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
        raise TagError(
            f"somebody else has changed {', '.join(changed)} of {before} meanwhile; nothing was written. Run it again"
        )


def write(aws: Tagging, change: TagChange) -> None:
    """Write a change: set tags, then remove others, since one that is removed may be what restricts a connection.

    Raises `TagError` for one with errors, `AwsError` where nothing was written, and `PartlyWrittenError`.
    """
    if change.errors:
        raise TagError("; ".join(change.errors))
    if change.written:
        aws.set(change.warehouse, change.written)
    if change.removed:
        try:
            aws.remove(change.warehouse, change.removed)
        except RedshiftSecretsError as error:
            if not change.written:
                raise
            raise PartlyWrittenError(
                f"{', '.join(change.written)} was written, and {', '.join(change.removed)} was not removed: {error}"
            ) from None
