"""Lookups from an event loop: what may block runs in a few threads of this backend, and waiting for AWS takes no thread.

Not in the executor of the loop, which everything else in the process shares.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from redshift_secrets.cache.workers import MustWait, Run, Workers

T = TypeVar("T")

_workers = Workers(4)


async def look_up(attempt: Callable[[], T]) -> T:
    """Return what `attempt` returns. It is tried again each time that what it had to wait for (`MustWait`) has ended."""
    call = functools.partial(contextvars.copy_context().run, attempt)
    while True:
        run = Run(call)
        try:
            _workers.submit(run)
        except RuntimeError:
            run()  # there is no thread to be had, and an attempt does not wait for AWS
        await _ended(run)
        if not isinstance(run.error, MustWait):
            break
        for other, until in run.error.waits:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(_ended(other), until.left())
    if run.error is not None:
        raise run.error
    return run.value  # type: ignore[return-value]  # set whenever there is no error


async def _ended(run: Run[Any]) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    run.on_done(functools.partial(loop.call_soon_threadsafe, ended.set))
    await ended.wait()
