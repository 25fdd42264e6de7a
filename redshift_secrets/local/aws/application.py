"""Handle a request: identify the caller and the operation, apply faults, dispatch."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from moto.core.request import Request
from werkzeug.wrappers import Response

from redshift_secrets.local.aws.authorization import Authorization
from redshift_secrets.local.aws.errors import AwsError, InvalidResponseError, NotSimulatedError
from redshift_secrets.local.aws.fault_effects import fault_error, hold, nonsense
from redshift_secrets.local.aws.faults import NONSENSE, Calls, Fault, Faults
from redshift_secrets.local.aws.identity import Caller, Identities
from redshift_secrets.local.aws.local_api import PREFIX, LocalApi
from redshift_secrets.local.aws.models import service_model
from redshift_secrets.local.aws.moto_services import MotoServices
from redshift_secrets.local.aws.requests import AwsRequest, Call, buffer_body, identify_request, parse_parameters
from redshift_secrets.local.aws.responses import build_error_response, build_response

log = logging.getLogger(__name__)

Operation = Callable[[Call], dict[str, Any]]


class Application:
    """The WSGI application. `operations` are handled here, by `service:Operation`; all others by moto."""

    def __init__(
        self,
        operations: Mapping[str, Operation],
        identities: Identities,
        calls: Calls,
        faults: Faults,
        moto: MotoServices,
        stopping: threading.Event,
        authorization: Authorization,
    ) -> None:
        self._operations = operations
        self._identities = identities
        self._calls = calls
        self._faults = faults
        self._moto = moto
        self._local_api = LocalApi(calls, faults)
        self._stopping = stopping
        self._authorization = authorization

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        client = environ["werkzeug.socket"]
        request = buffer_body(environ)
        is_local = request.path.startswith(PREFIX)
        response = self._local_api.respond(request) if is_local else self._respond(request, client)
        return response(environ, start_response)

    def _respond(self, request: Request, client: Any) -> Response:
        try:
            aws_request = identify_request(request)
        except NotSimulatedError as error:
            # The service is unknown, so reply in the query protocol, which every client can parse.
            operation = service_model("sts").operation_model("GetCallerIdentity")
            return build_error_response(operation, "query", AwsError("NotSimulated", str(error)))
        self._calls.count(aws_request.name)
        try:
            return self._call(aws_request, client)
        except AwsError as error:
            return self._error_response(aws_request, error)
        except NotSimulatedError as error:
            return self._error_response(aws_request, AwsError("NotSimulated", str(error)))
        except ConnectionError:
            raise
        except Exception as error:
            return self._internal_error(aws_request, error)

    def _call(self, aws_request: AwsRequest, client: Any) -> Response:
        caller = self._caller(aws_request)
        fault = self._apply_fault(aws_request, caller, client)
        if isinstance(caller, AwsError):
            raise caller
        self._authorization.check(aws_request, caller)
        response = self._answer(aws_request, caller)
        return nonsense(fault, response) if fault is not None and fault.kind in NONSENSE else response

    def _answer(self, aws_request: AwsRequest, caller: Caller) -> Response:
        operation = self._operations.get(aws_request.name)
        if operation is None:
            return self._moto.respond(aws_request, caller.account)
        call = Call(caller, aws_request.region, parse_parameters(aws_request))
        return build_response(aws_request.operation, aws_request.protocol, operation(call))

    def _caller(self, aws_request: AwsRequest) -> Caller | AwsError:
        # An invalid key must not bypass a black hole: return the error, to be raised after faults were applied.
        try:
            return self._identities.caller(aws_request.key_id, aws_request.session_token, aws_request.protocol)
        except AwsError as error:
            return error

    def _apply_fault(self, aws_request: AwsRequest, caller: Caller | AwsError, client: Any) -> Fault | None:
        """Return the fault of this call, once it has been held or refused for it."""
        account = caller.account if isinstance(caller, Caller) else None
        taken = self._faults.take(aws_request.name, aws_request.region, account)
        if taken is None:
            return None
        fault, released = taken
        if fault.kind in ("delay", "black_hole"):
            hold(fault, released, client)
            if self._stopping.is_set():
                raise ConnectionAbortedError("the simulated AWS is stopping")
        elif isinstance(caller, Caller) and fault.kind not in NONSENSE:
            raise fault_error(fault, aws_request, caller, parse_parameters(aws_request))
        return fault

    def _error_response(self, aws_request: AwsRequest, error: AwsError) -> Response:
        try:
            return build_error_response(aws_request.operation, aws_request.protocol, error)
        except InvalidResponseError as invalid:
            return self._internal_error(aws_request, invalid)

    def _internal_error(self, aws_request: AwsRequest, error: Exception) -> Response:
        # The message of any other exception might contain a password.
        reason = str(error) if isinstance(error, InvalidResponseError) else type(error).__name__
        message = f"Bug in the simulated AWS, in {aws_request.name}: {reason}"
        log.error("%s", message)
        return build_error_response(aws_request.operation, aws_request.protocol, AwsError("InternalFailure", message))
