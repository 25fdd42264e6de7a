"""Validate plain values against shapes of botocore's models.

botocore's own validator checks types and minimums only; this one also checks enumerations, patterns and maximums, to
notice when the stand-in builds a response that AWS never would.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from botocore.model import Shape


def violations(value: object, shape: Shape, path: str) -> Iterator[str]:
    """Yield every reason why `value` does not match `shape`, each prefixed with the `path` of the member.

    Never quotes the value, which may be a password.
    """
    expected = _PYTHON_TYPES[shape.type_name]
    # In Python a boolean is an integer too, to AWS it is not.
    if not isinstance(value, expected) or (isinstance(value, bool) and shape.type_name != "boolean"):
        yield f"{path}: must be of type {shape.type_name}, is {type(value).__name__}"
        return
    check = _CHECKS.get(shape.type_name)
    if check is not None:
        yield from check(value, shape, path)


def _structure(value: dict[str, object], shape: Any, path: str) -> Iterator[str]:
    for name in shape.required_members:
        if name not in value:
            yield f"{path}.{name}: required, but missing"
    for name, member in value.items():
        if name not in shape.members:
            yield f"{path}.{name}: not a member of {shape.name}"
        else:
            yield from violations(member, shape.members[name], f"{path}.{name}")


def _list(value: list[object], shape: Any, path: str) -> Iterator[str]:
    yield from _range(len(value), shape, path, "length")
    for number, item in enumerate(value):
        yield from violations(item, shape.member, f"{path}[{number}]")


def _map(value: dict[str, object], shape: Any, path: str) -> Iterator[str]:
    for key, item in value.items():
        yield from violations(key, shape.key, f"{path} key")
        yield from violations(item, shape.value, f"{path}[{key}]")


def _string(value: str, shape: Any, path: str) -> Iterator[str]:
    yield from _range(len(value), shape, path, "length")
    allowed = shape.enum
    if allowed and value not in allowed:
        yield f"{path}: must be one of {', '.join(allowed)}"
    pattern = _compile(shape.metadata.get("pattern", ""))
    if pattern is not None and not pattern.fullmatch(value):
        yield f"{path}: must match the pattern {shape.metadata['pattern']}"


def _number(value: float, shape: Any, path: str) -> Iterator[str]:
    yield from _range(value, shape, path, "value")


def _timestamp(value: datetime, shape: Any, path: str) -> Iterator[str]:
    if value.tzinfo is None:
        yield f"{path}: must have a time zone"


def _range(number: float, shape: Any, path: str, quantity: str) -> Iterator[str]:
    minimum, maximum = shape.metadata.get("min"), shape.metadata.get("max")
    if minimum is not None and number < minimum:
        yield f"{path}: {quantity} must be at least {minimum}"
    if maximum is not None and number > maximum:
        yield f"{path}: {quantity} must be at most {maximum}"


_UNICODE_CLASSES = {
    r"\p{L}": r"\w",
    r"\p{N}": r"\w",
    r"\p{Z}": r" \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
}


@functools.cache
def _compile(pattern: str) -> re.Pattern[str] | None:
    # The patterns are Java's; of their Unicode classes, Python has no more than those of tags.
    for java, python in _UNICODE_CLASSES.items():
        pattern = pattern.replace(java, python)
    return re.compile(pattern) if pattern and r"\p{" not in pattern else None


_PYTHON_TYPES: dict[str, type | tuple[type, ...]] = {
    "structure": dict,
    "list": list,
    "map": dict,
    "string": str,
    "integer": int,
    "long": int,
    "float": (int, float),
    "double": (int, float),
    "boolean": bool,
    "timestamp": datetime,
    "blob": bytes,
}
_CHECKS: dict[str, Callable[[Any, Any, str], Iterator[str]]] = {
    "structure": _structure,
    "list": _list,
    "map": _map,
    "string": _string,
    "integer": _number,
    "long": _number,
    "float": _number,
    "double": _number,
    "timestamp": _timestamp,
}
