"""Permissions in, IAM policy documents out, each within IAM's limits and in an order that depends on nothing else.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from redshift_secrets.aws.permissions import ANY, Conditions, Permission

MOST_POLICY_CHARACTERS = 6_144
"""Of a managed policy. White space does not count."""
MOST_TRUST_CHARACTERS = 2_048
MOST_POLICIES = 10
"""That a role may have attached."""

Document = dict[str, Any]


class Placeholder(Struct, frozen=True):
    """A value that is not printed: a secret one, or one that is not known here. `name` is a name for it in code, `about` says
    what it is."""

    name: str
    about: str
    is_secret: bool = False

    def __str__(self) -> str:
        return f"<{self.about}>"


class IdentityPolicies(Struct, frozen=True):
    """The managed policies of one identity by name, and for a role who may assume it.

    `arn` is a placeholder for a caller that is not known, `account` `None` where nothing tells its account. `max_session_seconds` is how long a session of
    a role has to be allowed to last, `None` for IAM's default.
    """

    arn: str | Placeholder
    account: str | None
    policies: Mapping[str, Document]
    trust: Document | None = None
    max_session_seconds: int | None = None

    @property
    def is_caller(self) -> bool:
        """Whether it is the identity that Airflow runs as, which exists already."""
        return self.trust is None


class SitePolicies(Struct, frozen=True):
    """The policies of each identity, the caller first, and remarks. `complete` is whether all warehouses were seen."""

    identities: tuple[IdentityPolicies, ...]
    notes: tuple[str, ...]
    complete: bool = True


def policies(name: str, permissions: Iterable[Permission]) -> dict[str, Document]:
    """Return the managed policies that allow exactly this, by name: as few as IAM's limit on their size allows."""
    documents: list[list[Document]] = [[]]
    for statement in statements(permissions):
        left = _listed(statement["Resource"])
        while left:
            fitting = _fitting(documents[-1], statement, left)
            if fitting or not documents[-1]:
                fitting = fitting or 1  # nothing makes one resource smaller
                documents[-1].append({**statement, "Resource": _one_or_all(left[:fitting])})
                left = left[fitting:]
            if left:
                documents.append([])
    names = [name] if len(documents) == 1 else [f"{name}-{number}" for number in range(1, len(documents) + 1)]
    return {name: _document(found) for name, found in zip(names, documents, strict=True)}


def trust(permissions: Iterable[Permission], principal: str | Placeholder, external_id: Placeholder | None) -> Document:
    """Return the trust policy with which `principal` may do this to a role, and nobody else."""
    found = []
    for statement in statements(permissions):
        conditions = statement.pop("Condition", {})
        del statement["Resource"]
        if external_id is not None and "sts:AssumeRole" in _listed(statement["Action"]):
            conditions = {**conditions, "StringEquals": {"sts:ExternalId": external_id}}
        found.append(
            {**statement, "Principal": {"AWS": principal}, **({"Condition": conditions} if conditions else {})}
        )
    return _document(found)


def statements(permissions: Iterable[Permission]) -> list[Document]:
    """Return the statements that allow exactly this: what is alike in all but one respect is one statement."""
    return [
        _statement(sid, actions, resources, conditions)
        for sid, (actions, resources, conditions) in _numbered(_merged(_merged_regions(permissions)))
    ]


def size(document: object) -> int:
    """Return how many characters IAM counts."""
    return len(json.dumps(document, separators=(",", ":"), default=str))


def _merged_regions(permissions: Iterable[Permission]) -> list[Permission]:
    """The values of a condition that stands alone, such as the region, are alternatives."""
    values: dict[tuple[str, str, str, str, str], set[str]] = {}
    others = []
    for each in permissions:
        if len(each.conditions) == 1:
            ((operator, key, found),) = each.conditions
            values.setdefault((each.purpose, each.action, each.resource, operator, key), set()).update(found)
        else:
            others.append(each)
    merged = [
        Permission(purpose, action, resource, ((operator, key, tuple(sorted(found))),))
        for (purpose, action, resource, operator, key), found in values.items()
    ]
    return others + merged


def _merged(permissions: Iterable[Permission]) -> list[tuple[str, tuple[str, ...], tuple[str, ...], Conditions]]:
    """Purpose, actions, resources and conditions."""
    resources: dict[tuple[str, str, Conditions], set[str]] = {}
    for each in permissions:
        resources.setdefault((each.purpose, each.action, each.conditions), set()).add(each.resource)
    actions: dict[tuple[str, tuple[str, ...], Conditions], set[str]] = {}
    for (purpose, action, conditions), found in resources.items():
        actions.setdefault((purpose, _widest(found), conditions), set()).add(action)
    return sorted(
        (purpose, tuple(sorted(found)), named, conditions) for (purpose, named, conditions), found in actions.items()
    )


def _widest(resources: set[str]) -> tuple[str, ...]:
    """Without those that another one with wildcards covers."""
    patterns = [each for each in resources if ANY in each]
    return tuple(
        each
        for each in sorted(resources)
        if not any(each != wide and fnmatch.fnmatchcase(each, wide.replace("[", "[[]")) for wide in patterns)
    )


def _numbered(
    found: Sequence[tuple[str, tuple[str, ...], tuple[str, ...], Conditions]],
) -> Iterator[tuple[str, tuple[tuple[str, ...], tuple[str, ...], Conditions]]]:
    """A `Sid` is there once in a policy."""
    seen: dict[str, int] = {}
    for purpose, *rest in found:
        seen[purpose] = number = seen.get(purpose, 0) + 1
        yield purpose if number == 1 else f"{purpose}{number}", tuple(rest)  # type: ignore[misc]  # three of them


def _statement(sid: str, actions: Sequence[str], resources: Sequence[str], conditions: Conditions) -> Document:
    found: Document = {
        "Sid": sid,
        "Effect": "Allow",
        "Action": _one_or_all(actions),
        "Resource": _one_or_all(resources),
    }
    for operator, key, values in conditions:
        found.setdefault("Condition", {}).setdefault(operator, {})[key] = _one_or_all(values)
    return found


def _fitting(others: Sequence[Document], statement: Document, resources: Sequence[str]) -> int:
    """Return with how many of the resources a statement fits into a policy beside others."""
    room = MOST_POLICY_CHARACTERS - size(_document([*others, {**statement, "Resource": []}])) - 1
    for number, each in enumerate(resources):
        room -= size(each) + 1
        if room < 0:
            return number
    return len(resources)


def _document(found: Sequence[Document]) -> Document:
    return {"Version": "2012-10-17", "Statement": list(found)}


def _one_or_all(values: Sequence[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else list(values)


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
