"""Injected faults by operation, region and account, and counts of the calls."""

from __future__ import annotations

import difflib
import threading
from collections import Counter
from dataclasses import dataclass, replace

from redshift_secrets.local.aws.errors import NotSimulatedError
from redshift_secrets.local.aws.models import service_model

NONSENSE = ("html", "empty", "truncated", "other")
"""What comes with status 200 instead of the answer: the page of a portal, nothing, half of it, the answer of another service."""
KINDS = ("throttle", "access_denied", "server_error", "expired_token", "clock_skew", "delay", "black_hole", *NONSENSE)


@dataclass(frozen=True)
class Fault:
    """A fault to inject. `None` means every region, every account, and for `times`: until cleared."""

    operation: str
    kind: str
    region: str | None = None
    account: str | None = None
    times: int | None = None
    seconds: float | None = None

    def matches(self, operation: str, region: str, account: str | None) -> bool:
        """Return whether the fault applies to a call of this operation, in this region, by this account."""
        is_named = self.operation in ("*", operation, f"{operation.split(':')[0]}:*")
        return is_named and self.region in (None, region) and self.account in (None, account)


class Faults:
    """The active faults. If several match, the one added first applies. Thread-safe."""

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
        """Inject a fault into `redshift:DescribeClusters`, `redshift:*` or `*` (services by their boto3 names).

        `seconds` is for the kind `delay` only. Raises `ValueError` for an invalid fault.
        """
        fault = Fault(operation, kind, region, account, times, seconds)
        problem = _problem(fault)
        if problem is not None:
            raise ValueError(problem)
        with self._lock:
            self._faults.append(fault)
        return fault

    def active(self) -> tuple[Fault, ...]:
        """Return the active faults, each with its remaining `times`."""
        with self._lock:
            return tuple(self._faults)

    def clear(self) -> None:
        """Remove all faults; requests held by a delay or a black hole continue as if there had been none."""
        with self._lock:
            self._faults.clear()
        self.release()

    def release(self) -> None:
        """Let the held requests continue, but keep the faults."""
        with self._lock:
            released, self._released = self._released, threading.Event()
        released.set()

    def take(self, operation: str, region: str, account: str | None) -> tuple[Fault, threading.Event] | None:
        """Return the fault for this call and the event that releases a held request, or `None` for no fault.

        Counts as one of the fault's `times`.
        """
        with self._lock:
            for position, fault in enumerate(self._faults):
                if fault.matches(operation, region, account):
                    self._use_once(position, fault)
                    return fault, self._released
        return None

    def _use_once(self, position: int, fault: Fault) -> None:
        if fault.times == 1:
            del self._faults[position]
        elif fault.times is not None:
            self._faults[position] = replace(fault, times=fault.times - 1)


class Calls:
    """Counts the calls of each operation, including failed ones. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def count(self, operation: str) -> None:
        """Count one call of an operation such as `redshift:DescribeClusters`."""
        with self._lock:
            self._counts[operation] += 1

    def total(self) -> int:
        """Return the number of calls since the start or the last `clear`."""
        with self._lock:
            return sum(self._counts.values())

    def by_operation(self) -> dict[str, int]:
        """Return the number of calls of each operation: `{"redshift:DescribeClusters": 3}`."""
        with self._lock:
            return dict(sorted(self._counts.items()))

    def clear(self) -> None:
        """Reset all counts to zero."""
        with self._lock:
            self._counts.clear()


def _problem(fault: Fault) -> str | None:
    if fault.kind not in KINDS:
        return f"unknown kind {fault.kind!r}; known are {', '.join(KINDS)}"
    if (fault.kind == "delay") != (fault.seconds is not None):
        return f"'seconds' is for the kind 'delay' and required there, kind is {fault.kind!r}"
    if fault.seconds is not None and fault.seconds < 0:
        return f"'seconds' must not be negative, is {fault.seconds}"
    if fault.times is not None and fault.times < 1:
        return f"'times' must be 1 or more, is {fault.times}"
    return None if fault.operation == "*" else _unknown_operation(fault.operation)


def _unknown_operation(operation: str) -> str | None:
    # A fault with a misspelled operation would never fire, and a test relying on it would pass for the wrong reason.
    service, _, name = operation.partition(":")
    if not name:
        return f"operation must be 'service:Operation', 'service:*' or '*', is {operation!r}"
    try:
        known = service_model(service).operation_names
    except NotSimulatedError:
        return f"unknown service {service!r} in {operation!r}; use the boto3 name, such as 'redshift'"
    if name == "*" or name in known:
        return None
    similar = difflib.get_close_matches(name, known, n=1)
    return f"{service} has no operation {name!r}" + (f"; did you mean {similar[0]!r}?" if similar else "")
