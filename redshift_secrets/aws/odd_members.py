"""What of an answer is of another kind than botocore's model says is left out, so that one odd field hurts only the resource it is of.

botocore's parsers refuse the whole page for it, or take an object for an empty list. Answers in XML lose an odd timestamp alone.
"""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from datetime import datetime
from typing import Any

from botocore.utils import parse_timestamp

_KINDS = {"list": list, "map": dict, "structure": dict}


def read_timestamp(value: Any) -> datetime | None:
    """Return a time on the wire, `None` for what is none: the `timestamp_parser` of botocore's parsers."""
    try:
        found: datetime = parse_timestamp(value)
    except (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError):
        return None
    return found


def leave_out_odd_members(response_dict: MutableMapping[str, Any], operation_model: Any, **_: Any) -> None:
    """Handle botocore's event `before-parse`: of an answer in JSON, parse only what is of the kind that its model says."""
    if response_dict["status_code"] >= 300 or operation_model.output_shape is None:
        return
    try:
        answer, odd = json.loads(response_dict["body"]), []  # type: ignore[var-annotated]
        if isinstance(answer, dict):
            answer = _fitting(answer, operation_model.output_shape, odd)
    except (RecursionError, TypeError, ValueError):
        return  # it is XML, or nonsense, which the parser says
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
