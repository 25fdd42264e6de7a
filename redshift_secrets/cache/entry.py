"""What can be cached, an entry with its ages, and why there is none."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec import Struct

from redshift_secrets.errors import RedshiftSecretsError, error_from_json, error_to_json, known_error

if TYPE_CHECKING:
    from redshift_secrets.cache.recall import Recall
    from redshift_secrets.cache.store import Rows

V = TypeVar("V")

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 5.0, 60.0
_MOST_COUNTED = 100


class Entry(Struct, Generic[V], frozen=True):
    """A value and its ages, in seconds since the epoch: when it was made, and until when it is fresh, stale while
    revalidating, and stale if error. Follows docs/contract.md, "Ages"."""

    value: V
    made_at: float
    stale_at: float
    wait_at: float
    expires_at: float

    def shifted(self, seconds: float) -> Entry[V]:
        """Return the entry with all of its ages moved by so much."""
        ages = (self.made_at, self.stale_at, self.wait_at, self.expires_at)
        return Entry(self.value, *(age + seconds for age in ages))


class Failure(Struct, frozen=True):
    """Why the last refresh failed, how many have in a row, and when the next one is due (seconds since the epoch)."""

    error: Exception
    count: int
    retry_at: float

    @classmethod
    def after(cls, before: Failure | None, error: Exception, now: float) -> Failure:
        """Return the failure that follows `before`: the pause doubles, unless the last one ended long ago."""
        again = before is not None and now < before.expires_at
        count = before.count + 1 if before is not None and again else 1
        return cls(error, count, now + _pause(count))

    def shifted(self, seconds: float) -> Failure:
        """Return the failure with the next attempt moved by so much."""
        return Failure(self.error, self.count, self.retry_at + seconds)

    @property
    def made_at(self) -> float:
        """When the refresh failed."""
        return self.retry_at - _pause(self.count)

    @property
    def began_at(self) -> float:
        """When the first one in a row was, if each of the others came as soon as it was due."""
        return self.made_at - sum(_pause(count) for count in range(1, min(self.count, _MOST_COUNTED)))

    @property
    def expires_at(self) -> float:
        """When a further failure is no longer one in a row."""
        return self.retry_at + 2 * _LONGEST_PAUSE_SECONDS

    @property
    def known_error(self) -> RedshiftSecretsError:
        """The error in words that can be shown."""
        return known_error(self.error)

    def to_bytes(self) -> bytes:
        """Encode the failure, without the text of an unexpected exception."""
        return json.dumps([error_to_json(self.error), self.count, self.retry_at]).encode()

    @classmethod
    def from_bytes(cls, content: bytes | None) -> Failure | None:
        """Decode what `to_bytes` encoded; `None` for anything else."""
        try:
            if content is None:
                return None
            text, count, retry_at = json.loads(content)
            error = error_from_json(text)
            return None if error is None else cls(error, int(count), float(retry_at))
        except (TypeError, ValueError):
            return None


def _pause(count: int) -> float:
    return min(_FIRST_PAUSE_SECONDS * (1 << min(max(count, 1) - 1, 10)), _LONGEST_PAUSE_SECONDS)


class Item(Struct, Generic[V], frozen=True):
    """Something that can be cached, for one caller and configuration under `name`. `describe` returns its name for people.

    `fetch` returns a new entry (`None` for what is only put); what it is answered on the way may go through the `Recall`. `encode` makes rows of a value,
    `all_rows` are their names. `decode` makes a value of those of the rows named in `rows` that there are, `None` where
    they do not carry one; where that is a part of the value, what a store returns is not `kept` in memory. `here` returns
    an entry with the ages that hold in this process. `unanswered` returns who has not answered to whom, while it is fetched.
    """

    name: str
    describe: Callable[[], str]
    fetch: Callable[[Recall], Entry[V]] | None
    encode: Callable[[V], Rows]
    decode: Callable[[Rows], V | None]
    rows: Sequence[str]
    all_rows: Sequence[str]
    here: Callable[[Entry[V]], Entry[V]] | None = None
    kept: bool = True
    unanswered: Callable[[], str] | None = None
