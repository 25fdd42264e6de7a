"""What of an answer is of another kind than botocore's model says is left out, so that one odd field hurts only the resource it is of.

botocore's parsers refuse the whole page for it, or take an object for an empty list. In XML, where all is text, it is a time or a number
that is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, MutableMapping
from datetime import datetime, timezone
from typing import Any

from botocore.utils import parse_timestamp

_NUMBERS: dict[str, Callable[[str], object]] = {"double": float, "float": float, "integer": int, "long": int}
_KINDS = {"list": list, "map": dict, "structure": dict}


def read_timestamp(value: Any) -> datetime | None:
    """Return a time on the wire, in UTC where it does not say its zone, `None` for what is none: the `timestamp_parser` of botocore's
    parsers."""
    try:
        found: datetime = parse_timestamp(value)
    except (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)


def leave_out_odd_members(response_dict: MutableMapping[str, Any], operation_model: Any, **_: Any) -> None:
    """Handle botocore's event `before-parse`: have only what is of the kind that its model says parsed."""
    body, shape = response_dict["body"], operation_model.output_shape
    if response_dict["status_code"] >= 300 or shape is None or not isinstance(body, bytes):
        return
    if body.lstrip().startswith(b"<"):
        response_dict["body"] = _without_odd_numbers(body, shape)
        return
    try:
        answer, odd = json.loads(body), []  # type: ignore[var-annotated]
        if isinstance(answer, dict):
            answer = _fitting(answer, shape, odd)
    except (RecursionError, ValueError):
        return  # nonsense, which the parser says
    if odd:
        response_dict["body"] = json.dumps(answer).encode()


def _fitting(value: Any, shape: Any, odd: list[str]) -> Any:
    """Return what there is of a value; `odd` gets the name of each shape that a part of it is not of."""
    kind = _KINDS.get(shape.type_name)
    if value is None or kind is None or getattr(shape, "is_document_type", False):
        return value
    if not isinstance(value, kind):
        odd.append(shape.name)
        return None
    if shape.type_name == "list":
        return [_fitting(item, shape.member, odd) for item in value]
    if shape.type_name == "map":
        return {name: _fitting(item, shape.value, odd) for name, item in value.items()}
    members = {member.serialization.get("name", name): member for name, member in shape.members.items()}
    return {name: _fitting(item, members[name], odd) if name in members else item for name, item in value.items()}


def _without_odd_numbers(body: bytes, shape: Any) -> bytes:
    """Return XML without the elements that are no numbers where its model has them."""
    numbers: dict[str, Callable[[str], object]] = {}
    _find_numbers(shape, numbers, set())
    if not numbers:
        return body

    def number_or_nothing(found: re.Match[bytes]) -> bytes:
        try:
            numbers[found[1].decode()]((found[2] or b"").decode())
        except ValueError:
            return b""
        return found[0]

    element = rf"<({'|'.join(map(re.escape, numbers))})\s*(?:/>|>([^<]*)</\1\s*>)"
    return re.sub(element.encode(), number_or_nothing, body)


def _find_numbers(shape: Any, numbers: dict[str, Callable[[str], object]], seen: set[str]) -> None:
    """Add the names of the members of a shape, at any depth, that are numbers."""
    if shape.name in seen:
        return
    seen.add(shape.name)
    inner = {"list": "member", "map": "value"}.get(shape.type_name)
    if inner is not None:
        _find_numbers(getattr(shape, inner), numbers, seen)
    elif shape.type_name == "structure":
        for name, member in shape.members.items():
            if member.type_name in _NUMBERS:
                numbers[member.serialization.get("name", name)] = _NUMBERS[member.type_name]
            else:
                _find_numbers(member, numbers, seen)
