"""One request after another: who calls what, is it to fail, who answers it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from moto.core.request import Request
from werkzeug.wrappers import Response

from redshift_secrets.local.aws.answers import answer, error_answer
from redshift_secrets.local.aws.errors import AwsError, DriftError, NotSimulatedError
from redshift_secrets.local.aws.faults import Calls, Faults
from redshift_secrets.local.aws.faulty import fault_error, hold
from redshift_secrets.local.aws.identity import Caller, Identities
from redshift_secrets.local.aws.local_api import PREFIX, LocalApi
from redshift_secrets.local.aws.models import service_model
from redshift_secrets.local.aws.moto_services import MotoServices
from redshift_secrets.local.aws.requests import Call, Envelope, open_envelope, parse, rewindable

log = logging.getLogger(__name__)

Operation = Callable[[Call], dict[str, Any]]


class Application:
    """The WSGI application. `operations` are ours, by `service:Operation`; all others go to moto."""

    def __init__(
        self,
        operations: Mapping[str, Operation],
        identities: Identities,
        calls: Calls,
        faults: Faults,
        moto: MotoServices,
        stopping: threading.Event,
    ) -> None:
        self._operations = operations
        self._identities = identities
        self._calls = calls
        self._faults = faults
        self._moto = moto
        self._local = LocalApi(calls, faults)
        self._stopping = stopping

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        client = environ["werkzeug.socket"]
        request = rewindable(environ)
        response = self._local.answer(request) if request.path.startswith(PREFIX) else self._aws(request, client)
        return response(environ, start_response)

    def _aws(self, request: Request, client: Any) -> Response:
        try:
            envelope = open_envelope(request)
        except NotSimulatedError as error:
            # Which service it was for is unknown, so this is in the words of a query service that everyone reads.
            operation = service_model("sts").operation_model("GetCallerIdentity")
            return error_answer(operation, "query", AwsError("NotSimulated", str(error)))
        self._calls.count(envelope.name)
        try:
            return self._answer(envelope, client)
        except AwsError as error:
            return self._refuse(envelope, error)
        except NotSimulatedError as error:
            return self._refuse(envelope, AwsError("NotSimulated", str(error)))
        except ConnectionError:
            raise
        except Exception as error:
            return self._bug(envelope, error)

    def _answer(self, envelope: Envelope, client: Any) -> Response:
        caller = self._caller(envelope)
        self._fail_if_asked_to(envelope, caller, client)
        if isinstance(caller, AwsError):
            raise caller
        operation = self._operations.get(envelope.name)
        if operation is None:
            return self._moto.answer(envelope, caller.account)
        call = Call(envelope.service, envelope.operation.name, caller, envelope.region, parse(envelope))
        return answer(envelope.operation, envelope.protocol, operation(call))

    def _caller(self, envelope: Envelope) -> Caller | AwsError:
        # A wrong key is no reason to get past a black hole, so its error waits until the faults had their turn.
        try:
            return self._identities.caller(envelope.key_id, envelope.session_token, envelope.protocol)
        except AwsError as error:
            return error

    def _fail_if_asked_to(self, envelope: Envelope, caller: Caller | AwsError, client: Any) -> None:
        account = caller.account if isinstance(caller, Caller) else None
        taken = self._faults.take(envelope.name, envelope.region, account)
        if taken is None:
            return
        fault, released = taken
        if fault.kind in ("delay", "black_hole"):
            hold(fault, released, client)
            if self._stopping.is_set():
                raise ConnectionAbortedError("the simulated AWS stops")
        elif isinstance(caller, Caller):
            raise fault_error(fault, envelope, caller, parse(envelope))

    def _refuse(self, envelope: Envelope, error: AwsError) -> Response:
        try:
            return error_answer(envelope.operation, envelope.protocol, error)
        except DriftError as drift:
            return self._bug(envelope, drift)

    def _bug(self, envelope: Envelope, error: Exception) -> Response:
        # Only our own words go out: those of any other exception may quote a password.
        said = str(error) if isinstance(error, DriftError) else type(error).__name__
        log.error("The simulated AWS has a bug in %s: %s", envelope.name, said)
        message = f"The simulated AWS has a bug in {envelope.name}: {said}"
        return error_answer(envelope.operation, envelope.protocol, AwsError("InternalFailure", message))
