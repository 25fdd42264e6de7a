"""Failures to order, per operation, region and account; and counts of what was called."""

from __future__ import annotations

import difflib
import threading
from collections import Counter
from dataclasses import dataclass, replace

from redshift_secrets.local.aws.errors import NotSimulatedError
from redshift_secrets.local.aws.models import service_model

KINDS = ("throttle", "access_denied", "server_error", "expired_token", "clock_skew", "delay", "black_hole")


@dataclass(frozen=True)
class Fault:
    """What to do wrong. `None` for region and account means every one, for `times` until cleared."""

    operation: str
    kind: str
    region: str | None = None
    account: str | None = None
    times: int | None = None
    seconds: float | None = None

    def matches(self, operation: str, region: str, account: str | None) -> bool:
        """Whether a call of this operation, in this region, by this account is to fail."""
        named = self.operation in ("*", operation, f"{operation.split(':')[0]}:*")
        return named and self.region in (None, region) and self.account in (None, account)


class Faults:
    """The failures that are switched on. The one added first wins. Safe among threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._released = threading.Event()

    def add(
        self,
        operation: str,
        kind: str,
        region: str | None = None,
        account: str | None = None,
        times: int | None = None,
        seconds: float | None = None,
    ) -> Fault:
        """Switch a failure on for `redshift:DescribeClusters`, `redshift:*` or `*` (boto3's names of the services).

        `seconds` goes with `delay` alone. Raises `ValueError` with a message that says what is wrong.
        """
        fault = Fault(operation, kind, region, account, times, seconds)
        problem = _problem(fault)
        if problem is not None:
            raise ValueError(problem)
        with self._lock:
            self._faults.append(fault)
        return fault

    def active(self) -> tuple[Fault, ...]:
        """The failures that are on, with the `times` that are left."""
        with self._lock:
            return tuple(self._faults)

    def clear(self) -> None:
        """Switch everything off; requests that are held by a delay or a black hole go on as if nothing had been."""
        with self._lock:
            self._faults.clear()
        self.release()

    def release(self) -> None:
        """Let go of the requests that are held, and leave the failures on."""
        with self._lock:
            released, self._released = self._released, threading.Event()
        released.set()

    def take(self, operation: str, region: str, account: str | None) -> tuple[Fault, threading.Event] | None:
        """The failure for this call, counted off, and the event that lets a held request go; `None` for no failure."""
        with self._lock:
            for position, fault in enumerate(self._faults):
                if fault.matches(operation, region, account):
                    self._count_off(position, fault)
                    return fault, self._released
        return None

    def _count_off(self, position: int, fault: Fault) -> None:
        if fault.times == 1:
            del self._faults[position]
        elif fault.times is not None:
            self._faults[position] = replace(fault, times=fault.times - 1)


class Calls:
    """How often each operation was called, calls that failed included. Safe among threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def count(self, operation: str) -> None:
        """Count one call of `redshift:DescribeClusters`."""
        with self._lock:
            self._counts[operation] += 1

    def total(self) -> int:
        """All calls since the start or the last `clear`."""
        with self._lock:
            return sum(self._counts.values())

    def by_operation(self) -> dict[str, int]:
        """Calls by operation, `{"redshift:DescribeClusters": 3}`."""
        with self._lock:
            return dict(sorted(self._counts.items()))

    def clear(self) -> None:
        """Begin at nought."""
        with self._lock:
            self._counts.clear()


def _problem(fault: Fault) -> str | None:
    if fault.kind not in KINDS:
        return f"unknown kind {fault.kind!r}; known are {', '.join(KINDS)}"
    if (fault.kind == "delay") != (fault.seconds is not None):
        return f"'seconds' goes with 'delay' and nothing else, kind is {fault.kind!r}"
    if fault.seconds is not None and fault.seconds < 0:
        return f"'seconds' must not be negative, is {fault.seconds}"
    if fault.times is not None and fault.times < 1:
        return f"'times' must be 1 or more, is {fault.times}"
    return None if fault.operation == "*" else _unknown_operation(fault.operation)


def _unknown_operation(operation: str) -> str | None:
    # A misspelt operation would never fail, and a test that relies on it would pass for the wrong reason.
    service, _, name = operation.partition(":")
    if not name:
        return f"operation must be 'service:Operation', 'service:*' or '*', is {operation!r}"
    try:
        known = service_model(service).operation_names
    except NotSimulatedError:
        return f"unknown service {service!r} in {operation!r}; use boto3's name, such as 'redshift'"
    if name == "*" or name in known:
        return None
    near = difflib.get_close_matches(name, known, n=1)
    return f"{service} has no operation {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
