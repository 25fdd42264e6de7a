"""Figures: what a row of the table is made of."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


class NotMeasuredError(Exception):
    """A row that cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Spread:
    """The median of several rounds, with the lowest and the highest."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Summarise at least one value."""
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])

    def show(self, form: Callable[[float], str]) -> str:
        """Write it as `median (lowest to highest)`, each number by `form`."""
        if self.lowest == self.highest:
            return form(self.median)
        return f"{form(self.median)} ({form(self.lowest)} to {form(self.highest)})"


@dataclass(frozen=True)
class Line:
    """One line of the table, as it is printed. `met` is `None` where nothing is asked of the figure."""

    work: str
    ours: str
    peer: str = "-"
    ratio: str = "-"
    limit: str = "-"
    met: bool | None = None


@dataclass(frozen=True)
class Effort:
    """How many rounds to do: all of them, or few for a first look."""

    quick: bool

    def rounds(self, full: int, few: int = 2) -> int:
        """Return the number of rounds of a row that does `full` when there is time."""
        return few if self.quick else full


@dataclass(frozen=True)
class Row:
    """One row of what must be shown. The docstring of `measure` says how the figure is made."""

    name: str
    work: str
    measure: Callable[[Effort], Sequence[Line]]


def seconds(value: float) -> str:
    """Write a time in the unit that fits; `value` in seconds."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def times(value: float) -> str:
    """Write a ratio."""
    return f"{value:.3g} x"


def percent(value: float) -> str:
    """Write a share."""
    return f"{value * 100:.2g} %"


def paired(
    work: str,
    ours: Sequence[float],
    peer: Sequence[float],
    *,
    limit: float | None,
    besides: bool = True,
    note: str = "",
) -> Line:
    """The line of two times in seconds that were measured in turns.

    The ratio is the median of each round's own, so that what slows a round down slows down both sides of it. `besides`
    is what must hold besides the limit, which `note` names.
    """
    ratio = Spread.of([a / b for a, b in zip(ours, peer, strict=True)])
    return Line(
        work,
        ours=Spread.of(ours).show(seconds),
        peer=Spread.of(peer).show(seconds),
        ratio=ratio.show(times),
        limit="-" if limit is None else f"{times(limit)}{note}",
        met=None if limit is None else ratio.median <= limit and besides,
    )
