"""What a listing was answered, kept from one process to the next as in a store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import msgpack


class ProcessEndsError(BaseException):
    """The process that lists ends now."""


class Memory:
    """A `Recall` that encodes every answer. What a listing gets from it is decoded, also where it was asked just now."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}

    def __call__(self, name: str, ask: Callable[[], Any]) -> Any:
        if name not in self.answers:
            answer = ask()
            self.answers[name] = msgpack.encode(answer)
            assert msgpack.decode(self.answers[name]) == answer, "the next process would get something else"
        return msgpack.decode(self.answers[name])
