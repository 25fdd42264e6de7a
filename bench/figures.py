"""The figures that a row of the table consists of."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


class NotMeasuredError(Exception):
    """A row cannot be measured here; the message says why."""


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
        """Format as `median (lowest to highest)`, each number with `form`."""
        if self.lowest == self.highest:
            return form(self.median)
        return f"{form(self.median)} ({form(self.lowest)} to {form(self.highest)})"


@dataclass(frozen=True)
class Line:
    """One line of the table, as it is printed. `met` is `None` for a figure without a limit."""

    work: str
    own: str
    peer: str = "-"
    ratio: str = "-"
    limit: str = "-"
    met: bool | None = None


@dataclass(frozen=True)
class Effort:
    """How many rounds to measure: all, or few for a first look."""

    quick: bool

    def rounds(self, full: int, few: int = 2) -> int:
        """Return `few` for a first look, else `full`."""
        return few if self.quick else full


@dataclass(frozen=True)
class Row:
    """One row of the benchmark. The docstring of `measure` says how the figure is made."""

    name: str
    work: str
    measure: Callable[[Effort], Sequence[Line]]


def seconds(value: float) -> str:
    """Format a time, given in seconds, in a suitable unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def times(value: float) -> str:
    """Format a ratio."""
    return f"{value:.3g} x"


def percent(value: float) -> str:
    """Format a share."""
    return f"{value * 100:.2g} %"


def paired(
    work: str,
    own: Sequence[float],
    peer: Sequence[float],
    *,
    limit: float | None,
    condition: bool = True,
    note: str = "",
) -> Line:
    """Return the line of two times, in seconds, that were measured in alternating rounds.

    The ratio is the median of the ratios of all rounds, since a disturbance slows down both sides of a round. `condition`
    must hold in addition to the limit; `note` describes it.
    """
    ratio = Spread.of([a / b for a, b in zip(own, peer, strict=True)])
    return Line(
        work,
        own=Spread.of(own).show(seconds),
        peer=Spread.of(peer).show(seconds),
        ratio=ratio.show(times),
        limit="-" if limit is None else f"{times(limit)}{note}",
        met=None if limit is None else ratio.median <= limit and condition,
    )
