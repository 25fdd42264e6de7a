"""Call counts and faults over HTTP, for other processes: `/_local/calls` and `/_local/faults`."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

from moto.core.request import Request
from werkzeug.wrappers import Response

from redshift_secrets.local.aws.faults import Calls, Fault, Faults

PREFIX = "/_local/"

_TYPES: dict[str, tuple[type, ...]] = {
    "operation": (str,),
    "kind": (str,),
    "region": (str,),
    "account": (str,),
    "times": (int,),
    "seconds": (int, float),
}


class LocalApi:
    """Supports GET and DELETE of calls; GET, POST (one fault as JSON) and DELETE of faults."""

    def __init__(self, calls: Calls, faults: Faults) -> None:
        self._calls = calls
        self._faults = faults

    def respond(self, request: Request) -> Response:
        """Return the response to a request under `/_local/`."""
        resource = request.path.removeprefix(PREFIX)
        if resource not in ("calls", "faults"):
            return _json(404, {"message": "unknown path; known are /_local/calls and /_local/faults"})
        if request.method == "DELETE":
            (self._calls if resource == "calls" else self._faults).clear()
            return Response(status=204)
        if request.method == "GET":
            return self._get_calls() if resource == "calls" else self._get_faults()
        if request.method == "POST" and resource == "faults":
            return self._add_fault(request)
        return _json(405, {"message": f"{request.path} does not support {request.method}"})

    def _get_calls(self) -> Response:
        counts = self._calls.by_operation()
        return _json(200, {"total": sum(counts.values()), "by_operation": counts})

    def _get_faults(self) -> Response:
        return _json(200, {"faults": [asdict(fault) for fault in self._faults.active()]})

    def _add_fault(self, request: Request) -> Response:
        try:
            fault = self._faults.add(**_fault_arguments(request.get_data()))
        except ValueError as error:
            return _json(400, {"message": str(error)})
        return _json(201, asdict(fault))


def _fault_arguments(body: bytes) -> dict[str, Any]:
    try:
        arguments = json.loads(body)
    except ValueError as error:
        raise ValueError(f"the body must be JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise ValueError("the body must be a JSON object")
    known = [field.name for field in fields(Fault)]
    for name, value in arguments.items():
        if name not in known:
            raise ValueError(f"unknown key {name!r}; known are {', '.join(known)}")
        if value is not None and (not isinstance(value, _TYPES[name]) or isinstance(value, bool)):
            raise ValueError(f"{name!r} must be a {_TYPES[name][0].__name__}, is {type(value).__name__}")
    for name in ("operation", "kind"):
        if arguments.get(name) is None:
            raise ValueError(f"{name!r} is missing")
    return arguments


def _json(status: int, content: dict[str, Any]) -> Response:
    return Response(json.dumps(content), status=status, content_type="application/json")
