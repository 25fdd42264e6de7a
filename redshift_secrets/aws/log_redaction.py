"""Keep AWS responses out of debug logs: botocore logs whole response bodies, and some of them contain passwords."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_thread = threading.local()


class _PayloadFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return getattr(_thread, "depth", 0) == 0


# The parsers log whole responses; the endpoint and the signer log requests with the session token in their headers.
# A logger's filter does not apply to its child loggers, so each logger is named.
_LOGGERS = ("botocore.parsers", "botocore.endpoint", "botocore.auth", "botocore.utils")
_filter = _PayloadFilter()


@contextmanager
def suppress_payload_logs() -> Iterator[None]:
    """Suppress what the parts of botocore that handle bodies or tokens log in this thread."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_filter)  # adding it again has no effect
    _thread.depth = getattr(_thread, "depth", 0) + 1
    try:
        yield
    finally:
        _thread.depth -= 1
