"""Keep answers of AWS out of debug logs: botocore writes whole response bodies there, and ours hold passwords."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_here = threading.local()


class _PayloadFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return getattr(_here, "depth", 0) == 0


# The parsers log whole answers, the endpoint and the signer log requests with the session token in their headers.
# A filter of a logger only holds for what is logged with that very logger, so each is named.
_LOGGERS = ("botocore.parsers", "botocore.endpoint", "botocore.auth", "botocore.utils")
_filter = _PayloadFilter()


@contextmanager
def suppress_payload_logs() -> Iterator[None]:
    """While this thread is inside, no part of botocore that sees bodies or tokens logs anything."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_filter)  # adding it twice is adding it once
    _here.depth = getattr(_here, "depth", 0) + 1
    try:
        yield
    finally:
        _here.depth -= 1
