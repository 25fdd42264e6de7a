"""The end of a lookup: whatever happens, it answers before."""

from __future__ import annotations

import time
from collections.abc import Callable


class Deadline:
    """A moment that is `seconds` from now on a clock that never jumps."""

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._monotonic = monotonic
        self._end = monotonic() + seconds

    def left(self) -> float:
        """Seconds until the end, never less than zero."""
        return max(0.0, self._end - self._monotonic())
