"""Entries that are costly to make, kept in memory and in stores that processes share; one refresh for all.

Knows nothing of Redshift or AWS. `refresh` says how; docs/contract.md, "Ages", says what everybody gets meanwhile.
Here are the loggers of the package, too: like a store, a log may fail without changing an answer.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from contextlib import suppress


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module. What its handlers and filters raise, which are the site's, does not come out of it."""
    logger = logging.getLogger(name)
    logger.handle = functools.partial(_handle, logger.handle)  # type: ignore[method-assign]
    return logger


def _handle(handle: Callable[[logging.LogRecord], None], record: logging.LogRecord) -> None:
    with suppress(Exception):
        handle(record)
