"""Makes calls that may hang: a few at a time, each for a limited time, and none to what has just not answered."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from msgspec import Struct

from redshift_secrets.cache.workers import Deadline, Run
from redshift_secrets.errors import AwsError, RedshiftSecretsError, known_error

T = TypeVar("T")

Progress = Callable[[str], None]

_SIZE = 8
_SILENT = ("TimedOut", "Unreachable", "ProxyFailed", "TlsFailed")


class NoAnswerError(RedshiftSecretsError):
    """Something has not ended in time; it may still be running. `server` is what has not answered, where that is known."""

    def __init__(self, text: str, server: tuple[str, str] | None = None) -> None:
        super().__init__(text, server)
        self.text = text
        self.server = server

    def _text(self) -> str:
        return self.text


class Call(Struct, frozen=True):
    """`what` names it in messages. Calls with the same `server` are not made any more once it has not answered; `unanswered` says who
    does not answer while it is being made, as a sentence without its full stop."""

    what: str
    work: Callable[[], Any]
    server: tuple[str, str] | None = None
    unanswered: Callable[[], str] = str


class Runner:
    """Makes calls in daemon threads, so that nothing that hangs keeps the process. Each may take `patience_seconds`."""

    def __init__(
        self,
        patience_seconds: float,
        on_progress: Progress = lambda _text: None,
        *,
        size: int = _SIZE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._patience = patience_seconds
        self._on_progress = on_progress
        self._size = size
        self._monotonic = monotonic
        self._silent: dict[tuple[str, str], RedshiftSecretsError] = {}

    def run(self, title: str, calls: Sequence[Call], patience_seconds: float | None = None) -> list[Any]:
        """Return what each call returned, or the error of this package that it ended with."""
        patience = self._patience if patience_seconds is None else patience_seconds
        results: list[Any] = [None] * len(calls)
        waiting, ends = deque(range(len(calls))), dict[int, float]()
        finished: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        while waiting or ends:
            while waiting and len(ends) < self._size:
                number = waiting.popleft()
                silent = self._silent.get(calls[number].server or ("", ""))
                if silent is not None:
                    results[number] = silent
                    continue
                ends[number] = self._monotonic() + patience
                self._start(calls[number], number, finished)
            if not ends:
                break
            self._on_progress(f"{title} {len(calls) - len(waiting) - len(ends)} of {len(calls)}")
            try:
                ended, result = finished.get(timeout=max(0.0, min(ends.values()) - self._monotonic()))
            except queue.Empty:
                now = self._monotonic()
                late = [number for number, end in ends.items() if end <= now]
                found = {number: _no_answer(calls[number], patience) for number in late}
            else:
                found = {ended: result} if ended in ends else {}  # what is too late does not count
            for number, each in found.items():
                del ends[number]
                results[number] = each
                self._note(calls[number], each)
        return results

    def silence(self, server: tuple[str, str], error: RedshiftSecretsError) -> None:
        """Have calls to a server end with this error without being made."""
        self._silent.setdefault(server, error)

    def begin(self, call: Call) -> Pending:
        """Make a call while others are made."""
        run: Run[Any] = Run(call.work)
        _start_thread(run)
        return Pending(call.what, run, Deadline(self._patience, self._monotonic), self._patience)

    def _start(self, call: Call, number: int, finished: queue.SimpleQueue[tuple[int, Any]]) -> None:
        def work() -> None:
            finished.put((number, _result(call.work)))

        _start_thread(work)

    def _note(self, call: Call, result: Any) -> None:
        is_silent = isinstance(result, NoAnswerError) or (isinstance(result, AwsError) and result.code in _SILENT)
        if call.server is not None and is_silent:
            self.silence(call.server, result)


class Pending(Struct, frozen=True):
    """A call that is being made."""

    what: str
    run: Run[Any]
    deadline: Deadline
    patience_seconds: float

    def result(self) -> Any:
        """Return what the call returned, or the error of this package that it ended with."""
        self.run.wait(self.deadline)
        if not self.run.done:
            return NoAnswerError(f"{self.what} took longer than {self.patience_seconds:g} s")
        return _result(self.run.result)


def _no_answer(call: Call, seconds: float) -> NoAnswerError:
    text = f"{call.what} took longer than {seconds:g} s"
    unanswered = call.unanswered()
    if unanswered:
        text += f": {unanswered}"
    return NoAnswerError(text, call.server)


def _result(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:
        return known_error(error)


def _start_thread(work: Callable[[], object]) -> None:
    try:
        threading.Thread(target=work, name="redshift-secrets call", daemon=True).start()
    except RuntimeError:  # the system has no thread to give
        work()
