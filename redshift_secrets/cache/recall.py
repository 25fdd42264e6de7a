"""What an unfinished refresh was answered so far, so that the next process goes on from there.

A listing may take longer than the short task that began it. What it was answered is kept beside the entry that it is for.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from msgspec import MsgspecError, msgpack

from redshift_secrets.cache.store import Lease, SharedStore

T = TypeVar("T")

_BEGAN, _SAVED, _ANSWERS, _MARK = "began", "saved", "answers", "mark"
_KEPT_SECONDS = 900.0
"""How long answers are used to go on: no listing has older ones in it."""
_SAVE_AFTER_SECONDS = 0.5
"""Most listings end sooner, and need not be saved."""
_SAVE_SHARE = 10
"""Answers are saved at most so often that asking takes so many times as long as saving."""


class Recall:
    """Answers by name, saved in `stores` (each with its group and the lease on it) as they come, to any thread. What was answered
    before a flush is nothing that a refresh after it could go on from.

    `clock` returns seconds since the epoch, `monotonic` seconds on a clock that never jumps.
    """

    def __init__(
        self,
        stores: Sequence[tuple[SharedStore, str, Lease]],
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._stores = stores
        self._marks = self._flush_marks()
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._answers: dict[str, Any] | None = None
        self._ended = False
        self._began_at = clock()
        self._save_at = monotonic() + _SAVE_AFTER_SECONDS
        self._saved = False

    @property
    def began_at(self) -> float:
        """When the first of the answers was asked for, in seconds since the epoch."""
        self._loaded()
        return self._began_at

    def __call__(self, name: str, ask: Callable[[], T]) -> T:
        """Return the answer of that name, from before or by asking now. It must be plain data: it travels as msgpack."""
        answers = self._loaded()
        if name not in answers:
            answer = ask()
            with self._lock:
                answers[name] = answer
                if not self._ended:
                    self._save(answers)
        known: T = answers[name]
        return known

    @property
    def flushed(self) -> bool:
        """Whether a store was flushed since the first answer of this process."""
        return self._flush_marks() != self._marks

    def _flush_marks(self) -> list[str]:
        return [store.flush_mark() or "" for store, _, _ in self._stores]

    def forget(self) -> None:
        """Remove what was saved, once there is an entry or the answers cannot be used. What is answered later is not saved."""
        with self._lock:
            self._ended = True
            if self._saved:
                for store, group, _ in self._stores:
                    store.clear(f"{group}+")
            self._saved = False

    def _loaded(self) -> dict[str, Any]:
        with self._lock:
            return self._load()

    def _load(self) -> dict[str, Any]:
        if self._answers is None:
            self._answers = {}
            for (store, group, _), mark in zip(self._stores, self._marks, strict=True):
                rows = store.read({f"{group}+": (_BEGAN, _ANSWERS, _MARK)}).get(f"{group}+", {})
                if rows.get(_MARK, b"") != mark.encode():
                    continue
                try:
                    answers = msgpack.decode(zlib.decompress(rows[_ANSWERS]), type=dict[str, Any])
                except (KeyError, MsgspecError, zlib.error):
                    continue
                self._saved = True
                if len(answers) > len(self._answers):
                    self._answers, self._began_at = answers, _number(rows.get(_BEGAN))
        return self._answers

    def _save(self, answers: dict[str, Any]) -> None:
        began = self._monotonic()
        if began < self._save_at:
            return
        rows = {
            _BEGAN: msgpack.encode(self._began_at),
            _SAVED: msgpack.encode(self._clock()),
            _ANSWERS: zlib.compress(msgpack.encode(answers), 1),
        }
        for (store, group, lease), mark in zip(self._stores, self._marks, strict=True):
            lease.renew()
            store.replace(f"{group}+", {**rows, _MARK: mark.encode()}, self._began_at + _KEPT_SECONDS)
            self._saved = True
        self._save_at = began + (self._monotonic() - began) * (1 + _SAVE_SHARE)


def answered_at(store: SharedStore, group: str) -> float:
    """Return when a refresh of this group was last answered something, in seconds since the epoch; minus infinity where it
    was not, or has ended."""
    return _number(store.read({f"{group}+": (_SAVED,)}).get(f"{group}+", {}).get(_SAVED))


def _number(encoded: bytes | None) -> float:
    try:
        return msgpack.decode(encoded, type=float) if encoded is not None else float("-inf")
    except MsgspecError:
        return float("-inf")
