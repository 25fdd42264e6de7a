"""The setting `assume_role_kwargs`: arguments of sts:AssumeRole for `role_arn`, checked without botocore. Pure.

No message repeats a value. https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from redshift_secrets.errors import SettingsError
from redshift_secrets.settings import values

_SESSION_TAGS = ("redshiftdbuser", "redshiftdbgroups", "redshiftdbroles")
"""In lower case, since the case of a session tag's key does not count."""
_NOT_HERE = {
    "RoleArn": "the setting role_arn names the role",
    "RoleSessionName": "this backend names its sessions for the host, so that CloudTrail tells them apart",
    "SerialNumber": "a server cannot enter the code of an MFA device",
    "TokenCode": "a server cannot enter the code of an MFA device",
}


def _policy(raw: object) -> str:
    if isinstance(raw, str) and len(raw) <= 2048:
        try:
            if isinstance(json.loads(raw), dict):
                return raw
        except (ValueError, RecursionError):
            pass
    raise ValueError("must be a text of at most 2048 characters with the JSON of a policy")


def _objects(*keys: str) -> Callable[[object], list[dict[str, str]]]:
    rule = f"must be a list of objects like {json.dumps(dict.fromkeys(keys, '...'))}"

    def read(raw: object) -> list[dict[str, str]]:
        if not isinstance(raw, (list, tuple)) or not all(
            isinstance(item, dict) and set(item) == {*keys} for item in raw
        ):
            raise ValueError(rule)
        if not all(isinstance(value, str) for item in raw for value in item.values()):
            raise ValueError(f"{rule}, each value a text")
        return [dict(item) for item in raw]

    return read


def _tags(raw: object) -> list[dict[str, str]]:
    tags = _objects("Key", "Value")(raw)
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
    return tags


def _source_identity(raw: object) -> str:
    if not isinstance(raw, str) or not re.fullmatch(r"[A-Za-z0-9_+=,.@-]{2,256}", raw):
        raise ValueError("must be 2 to 256 letters, digits or any of _ + = , . @ -")
    return raw


_ARGUMENTS: Mapping[str, Callable[[object], Any]] = {
    "DurationSeconds": values.whole_number(900, 43_200),
    "ExternalId": values.external_id,
    "Policy": _policy,
    "PolicyArns": _objects("arn"),
    "ProvidedContexts": _objects("ProviderArn", "ContextAssertion"),
    "SourceIdentity": _source_identity,
    "Tags": _tags,
    "TransitiveTagKeys": lambda raw: list(values.listed(values.tag_key)(raw)),
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
