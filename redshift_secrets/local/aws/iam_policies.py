"""IAM policy documents and whether they allow an action. Pure.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements.html and reference_policies_evaluation-logic.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from redshift_secrets.local.config import ConfigError

Effect = Literal["Allow", "Deny"]
Context = Mapping[str, Sequence[str]]
"""The values of condition keys, by their names in lower case."""

_KEYS = {
    "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition",
}  # fmt: skip
_VARIABLE = re.compile(r"\$\{([^}]+)\}")
_ARN_PARTS = 6


@dataclass(frozen=True)
class Request:
    """An action on a resource. `principals` are the ways to name who asks in a trust policy, nearest first."""

    action: str
    resource: str
    context: Context = field(default_factory=dict)
    principals: tuple[str, ...] = ()


class Document:
    """One policy. `where` says in errors which one it is; raises `ConfigError` for what no policy may contain."""

    def __init__(self, raw: Mapping[str, Any], where: str) -> None:
        if not isinstance(raw, Mapping) or "Statement" not in raw:
            raise ConfigError(f"{where}: must be a policy with a Statement")
        self._statements = [dict(each) for each in _listed(raw["Statement"])]
        for number, statement in enumerate(self._statements):
            _check(statement, f"{where}: Statement[{number}]")

    def principals(self) -> list[str]:
        """Return whom the statements of a trust policy name."""
        return [each for statement in self._statements for each in _named(statement)]

    def effects(self, request: Request) -> set[tuple[Effect, str]]:
        """Return what the statements that match say, each with the principal of a trust policy that it matched."""
        return {
            (statement["Effect"], principal)
            for statement in self._statements
            if (principal := _principal(statement, request)) is not None and _matches(statement, request)
        }


def _check(statement: Mapping[str, Any], where: str) -> None:
    unknown = sorted(set(statement) - _KEYS)
    if unknown:
        raise ConfigError(f"{where}: unknown element {unknown[0]!r}")
    if statement.get("Effect") not in ("Allow", "Deny"):
        raise ConfigError(f"{where}: Effect must be Allow or Deny")
    if ("Action" in statement) == ("NotAction" in statement):
        raise ConfigError(f"{where}: needs either Action or NotAction")
    if not {"Resource", "NotResource", "Principal"} & set(statement):
        raise ConfigError(f"{where}: needs a Resource, or in a trust policy a Principal")
    if "NotPrincipal" in statement:
        raise ConfigError(f"{where}: the simulated AWS does not know NotPrincipal")
    for operator in statement.get("Condition", {}):
        _, name, _ = _operator(operator)
        if name != "Null" and name not in _OPERATORS:
            raise ConfigError(f"{where}: the simulated AWS does not know the condition operator {operator!r}")


def _principal(statement: Mapping[str, Any], request: Request) -> str | None:
    """Return the principal by which a statement is about whoever asks, an empty one where it names none."""
    if "Principal" not in statement:
        return ""
    named = _named(statement)
    return next((each for each in request.principals if each in named), None)


def _named(statement: Mapping[str, Any]) -> Sequence[Any]:
    principal = statement.get("Principal", ())
    return _listed(principal.get("AWS", ())) if isinstance(principal, Mapping) else _listed(principal)


def _matches(statement: Mapping[str, Any], request: Request) -> bool:
    def is_action(pattern: str) -> bool:
        return _like(request.action.lower(), pattern.lower())

    def is_resource(pattern: str) -> bool:
        filled = _filled(pattern, request.context)
        return filled is not None and _arn_like(request.resource, filled)

    if "NotAction" in statement:
        if any(map(is_action, _listed(statement["NotAction"]))):
            return False
    elif not any(map(is_action, _listed(statement["Action"]))):
        return False
    if "NotResource" in statement:
        if any(map(is_resource, _listed(statement["NotResource"]))):
            return False
    elif "Resource" in statement and not any(map(is_resource, _listed(statement["Resource"]))):
        return False
    return all(
        _holds(operator, key, _listed(values), request.context)
        for operator, keys in statement.get("Condition", {}).items()
        for key, values in keys.items()
    )


def _holds(operator: str, key: str, wanted: Sequence[Any], context: Context) -> bool:
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-logic-multiple-context-keys-or-values.html"""
    quantifier, name, if_exists = _operator(operator)
    found = context.get(key.lower())
    if name == "Null":
        return (found is None) == (str(wanted[0]).lower() == "true")
    is_negated = "Not" in name
    if not found:
        return quantifier == "ForAllValues" or if_exists or (is_negated and quantifier != "ForAnyValue")
    test = _OPERATORS[name]
    values = [filled for each in wanted if (filled := _filled(_text(each), context)) is not None]

    def one(value: str) -> bool:
        return any(test(value, each) for each in values) is not is_negated

    return any(map(one, found)) if quantifier == "ForAnyValue" else all(map(one, found))


def _operator(operator: str) -> tuple[str, str, bool]:
    quantifier, _, name = operator.rpartition(":")
    return quantifier, name.removesuffix("IfExists"), name.endswith("IfExists")


def _filled(text: str, context: Context) -> str | None:
    """Return a text with its policy variables filled in, `None` where one has no value."""
    if not all(context.get(name.lower()) for name in _VARIABLE.findall(text)):
        return None
    return _VARIABLE.sub(lambda match: context[match[1].lower()][0], text)


def _like(value: str, pattern: str) -> bool:
    parts = ("." if sign == "?" else ".*" if sign == "*" else re.escape(sign) for sign in pattern)
    return re.fullmatch("".join(parts), value, re.DOTALL) is not None


def _arn_like(value: str, pattern: str) -> bool:
    """Each of the six parts of an ARN is compared on its own."""
    if pattern == "*":
        return True
    parts, patterns = value.split(":", _ARN_PARTS - 1), pattern.split(":", _ARN_PARTS - 1)
    return len(parts) == len(patterns) and all(map(_like, parts, patterns))


def _number(compare: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    def test(value: str, wanted: str) -> bool:
        try:
            return compare(float(value), float(wanted))
        except ValueError:
            return False

    return test


def _equal(value: str, wanted: str) -> bool:
    return value == wanted


def _equal_in_any_case(value: str, wanted: str) -> bool:
    return value.lower() == wanted.lower()


_OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "StringEquals": _equal,
    "StringNotEquals": _equal,
    "StringEqualsIgnoreCase": _equal_in_any_case,
    "StringNotEqualsIgnoreCase": _equal_in_any_case,
    "StringLike": _like,
    "StringNotLike": _like,
    "ArnEquals": _arn_like,
    "ArnNotEquals": _arn_like,
    "ArnLike": _arn_like,
    "ArnNotLike": _arn_like,
    "Bool": _equal_in_any_case,
    "NumericEquals": _number(lambda value, wanted: value == wanted),
    "NumericNotEquals": _number(lambda value, wanted: value == wanted),
    "NumericLessThan": _number(lambda value, wanted: value < wanted),
    "NumericLessThanEquals": _number(lambda value, wanted: value <= wanted),
    "NumericGreaterThan": _number(lambda value, wanted: value > wanted),
    "NumericGreaterThanEquals": _number(lambda value, wanted: value >= wanted),
}
"""What each operator asks of one value; those with `Not` in their names ask for the opposite."""


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


def allowed(documents: Iterable[Document], request: Request) -> tuple[bool, bool]:
    """Return whether a policy allows a request, and whether one denies it."""
    effects = {effect for document in documents for effect, _ in document.effects(request)}
    return "Allow" in effects, "Deny" in effects
