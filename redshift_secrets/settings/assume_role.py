"""The setting `assume_role_kwargs`: arguments of sts:AssumeRole for `role_arn`, checked without botocore. Pure.

No message repeats a value. https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from redshift_secrets.errors import SettingsError
from redshift_secrets.settings import values

T = TypeVar("T")

_SESSION_TAGS = ("redshiftdbuser", "redshiftdbgroups", "redshiftdbroles")
"""In lower case, since the case of a session tag's key does not count."""
_NOT_HERE = {
    "RoleArn": "the setting role_arn names the role",
    "RoleSessionName": "this backend names its sessions for the host, so that CloudTrail tells them apart",
    "SerialNumber": "a server cannot enter the code of an MFA device",
    "TokenCode": "a server cannot enter the code of an MFA device",
}


def _policy(raw: object) -> str:
    if isinstance(raw, str) and re.fullmatch("[\\t\\n\\r\\x20-\\xff]{1,2048}", raw):
        try:
            if isinstance(json.loads(raw), dict):
                return raw
        except (ValueError, RecursionError):
            pass
    raise ValueError("must be a text of at most 2048 characters with the JSON of a policy, no character beyond U+00FF")


def _objects(most: int, *keys: str) -> Callable[[object], list[dict[str, str]]]:
    rule = f"must be a list of objects like {json.dumps(dict.fromkeys(keys, '...'))}"

    def read(raw: object) -> list[dict[str, str]]:
        if not isinstance(raw, (list, tuple)) or not all(
            isinstance(item, dict) and set(item) == {*keys} for item in raw
        ):
            raise ValueError(rule)
        if not all(isinstance(value, str) for item in raw for value in item.values()):
            raise ValueError(f"{rule}, each value a text")
        return _at_most(most, [dict(item) for item in raw])

    return read


def _at_most(most: int, items: list[T]) -> list[T]:
    if len(items) > most:
        raise ValueError(f"must not have more than {most} items, which AWS allows, and has {len(items)}")
    return items


def _different(keys: list[str]) -> list[str]:
    """AWS takes keys that differ in their case alone for the same one, and refuses them."""
    folded = [key.lower() for key in keys]
    twice = next((key for key in folded if folded.count(key) > 1), None)
    if twice is not None:
        raise ValueError(f"must not have the key {twice} twice, in whatever case")
    if any(key.startswith("aws:") for key in folded):
        raise ValueError("must not have a key that begins with aws:, which AWS keeps for itself")
    return keys


def _tags(raw: object) -> list[dict[str, str]]:
    tags = _objects(values.MOST_TAGS, "Key", "Value")(raw)
    for tag in tags:
        if tag["Key"].lower() in _SESSION_TAGS:
            raise ValueError(
                f"must not have the key {tag['Key']}, which this backend sets: use db_user, db_groups or db_roles"
            )
        try:
            values.tag_key(tag["Key"])
            values.tag_value(tag["Value"])
        except ValueError:
            raise ValueError("must have keys and values that AWS accepts in tags") from None
    _different([tag["Key"] for tag in tags])
    return tags


def _transitive_keys(raw: object) -> list[str]:
    return _different(_at_most(values.MOST_TAGS, list(values.listed(values.tag_key)(raw))))


def _source_identity(raw: object) -> str:
    if not isinstance(raw, str) or not re.fullmatch(r"[A-Za-z0-9_+=,.@-]{2,256}", raw):
        raise ValueError("must be 2 to 256 letters, digits or any of _ + = , . @ -")
    return raw


_ARGUMENTS: Mapping[str, Callable[[object], Any]] = {
    "DurationSeconds": values.whole_number(900, 43_200),
    "ExternalId": values.external_id,
    "Policy": _policy,
    "PolicyArns": _objects(10, "arn"),
    "ProvidedContexts": _objects(5, "ProviderArn", "ContextAssertion"),
    "SourceIdentity": _source_identity,
    "Tags": _tags,
    "TransitiveTagKeys": _transitive_keys,
}


def parse(raw: object) -> dict[str, Any]:
    """Return the arguments; `None` means "not set". Raises `SettingsError` with a sentence for each that is wrong."""
    read: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in values.mapping(raw).items():
        if name in _NOT_HERE:
            problems.append(f"assume_role_kwargs must not have {name}: {_NOT_HERE[name]}")
        elif name not in _ARGUMENTS:
            problems.append(
                f"assume_role_kwargs.{name}: unknown argument of sts:AssumeRole{values.nearest(name, _ARGUMENTS)}"
            )
        elif value is not None:
            try:
                read[name] = _ARGUMENTS[name](value)
            except ValueError as error:
                problems.append(f"assume_role_kwargs.{name} {error}")
    if problems:
        raise SettingsError(problems)
    return read
