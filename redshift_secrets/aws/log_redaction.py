"""Keep AWS responses and requests out of logs: botocore logs whole ones, and some of them contain passwords or session tokens."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_thread = threading.local()


class _PayloadFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return getattr(_thread, "depth", 0) == 0


class _CredentialsFilter(logging.Filter):
    """Where keys or tokens cannot be renewed, botocore logs a traceback with the answer, which may quote the request. As long as the
    old ones can be used it is a warning of its own; else the call fails with the reason."""

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(_thread, "depth", 0) == 0:
            return True
        record.exc_info = record.exc_text = None
        return record.levelno < logging.WARNING or "advisory" in record.getMessage()


_payloads, _credentials = _PayloadFilter(), _CredentialsFilter()
# The parsers log whole responses; the endpoint, the signer and what sends log requests with the session token in their headers.
# A logger's filter does not apply to its child loggers, so each logger is named.
_FILTERS = {
    "botocore.parsers": _payloads,
    "botocore.endpoint": _payloads,
    "botocore.auth": _payloads,
    "botocore.utils": _payloads,
    "botocore.httpsession": _payloads,
    "botocore.credentials": _credentials,
    "botocore.tokens": _credentials,
}


@contextmanager
def suppress_payload_logs() -> Iterator[None]:
    """Suppress what the parts of botocore that handle bodies or tokens log in this thread."""
    for name, own in _FILTERS.items():
        logging.getLogger(name).addFilter(own)  # adding it again has no effect
    _thread.depth = getattr(_thread, "depth", 0) + 1
    try:
        yield
    finally:
        _thread.depth -= 1
