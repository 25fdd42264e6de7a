"""Prints a password in every form in which code of tasks prints one, and finds what of it can be read in a log.

Every printed text is between marks that say where it was printed and in which form.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from airflow.triggers.base import BaseTrigger, TriggerEvent
from sqlalchemy.engine import URL

MARKED = re.compile(r"<<([\w -]+)>(.*?)>>", re.DOTALL)
NEVER_REGISTERED = "a text that nobody masks +/="
_READABLE = 16
"""So many characters of a password in a row count as readable."""


def forms(connection: Any) -> Iterator[tuple[str, str]]:
    """Yield each form of the password of a Connection: its name and the text."""
    user, password = connection.login, connection.password
    url = URL.create("redshift+redshift_connector", user, password, connection.host, connection.port, connection.schema)
    uri = connection.get_uri()
    yield from {
        "raw": password,
        "get_uri": uri,
        "quote": quote(password),
        "quote plus": quote_plus(password),
        "SQLAlchemy": url.render_as_string(hide_password=False),
        "JSON": json.dumps({"token": password}),
        "repr": repr([password]),
        "base64": base64.b64encode(password.encode()).decode(),
        "base64 of user and password": base64.b64encode(f"{user}:{password}".encode()).decode(),
        "base64 of the URI": base64.b64encode(uri.encode()).decode(),
    }.items()


def write_forms(where: str, connection: Any, write: Callable[[str], object]) -> None:
    """Give each form to `write`, between marks; and a text that nobody masks, which shows that this finds anything."""
    for name, text in (*forms(connection), ("not registered", NEVER_REGISTERED)):
        write(mark(where, name, text))


def mark(where: str, form: str, text: str) -> str:
    """Return a text between marks."""
    return f"<<{where} {form}>{text}>>"


def marked(log: str) -> dict[str, str]:
    """Return what is between marks in a log, by the mark."""
    return dict(MARKED.findall(log))


def readable(text: str, passwords: Iterable[str]) -> bool:
    """Whether a part of one of the passwords can be read in a text, or in what it encodes."""
    pieces = {
        password[start : start + _READABLE] for password in passwords for start in range(len(password) - _READABLE + 1)
    }
    return any(piece in decoded for decoded in _decoded(text) for piece in pieces)


def _decoded(text: str) -> Iterator[str]:
    yield from (text, unquote(text), unquote_plus(text), text.replace("\\", ""))
    for word in re.findall(r"[A-Za-z0-9+/]{20,}", text):
        for start in range(4):
            part = word[start:]
            content = base64.b64decode(part[: len(part) // 4 * 4]).decode("latin-1")
            yield from (content, unquote(content))


class Prints(BaseTrigger):
    """Prints the forms of the password of `conn_id` in a triggerer."""

    def __init__(self, conn_id: str) -> None:
        super().__init__()
        self.conn_id = conn_id

    def serialize(self) -> tuple[str, Mapping[str, Any]]:  # type: ignore[override]
        return "tests.integration.printing.Prints", {"conn_id": self.conn_id}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from tests.integration.triggers import _connection

        connection = await _connection(self.conn_id)
        write_forms("trigger", connection, self.log.info)
        await asyncio.sleep(2.0)  # as in `tests.integration.triggers`
        yield TriggerEvent({})
