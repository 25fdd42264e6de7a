"""Runs many calls at once in a few threads, and does not wait longer than agreed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from redshift_secrets.cache import forks
from redshift_secrets.cache.single_flight import Deadline

T = TypeVar("T")


def run_all(
    calls: Sequence[Callable[[], T]], *, threads: int, deadline: Deadline, patience: Deadline | None = None
) -> list[T | Exception | None]:
    """Return for each call what it returned, the exception it raised, or `None` when the deadline came first.

    With `patience`, a later deadline, it continues until then while no call has returned.

    The threads are daemons, unlike those of `concurrent.futures`, which would keep the process from exiting while AWS
    does not answer. A call that has not begun at the deadline is never begun.
    """
    results: list[T | Exception | None] = [None] * len(calls)
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(calls)):
        waiting.put(number)
    finished = threading.Semaphore(0)

    last = patience or deadline

    def work() -> None:
        try:
            while last.left() > 0:
                number = waiting.get_nowait()
                try:
                    results[number] = calls[number]()
                except Exception as error:
                    results[number] = error
                finished.release()
        except queue.Empty:
            pass
        finally:
            forks.exiting_threads.add_this_thread()

    for number in range(min(threads, len(calls))):
        threading.Thread(target=work, name=f"redshift-secrets worker {number}", daemon=True).start()
    for _ in calls:
        if finished.acquire(timeout=deadline.left()):
            continue
        nothing_yet = all(result is None or isinstance(result, Exception) for result in results)
        if not (nothing_yet and finished.acquire(timeout=last.left())):
            break
    return list(results)  # a copy, which threads that come late do not change
