"""The messages of PostgreSQL's protocol 3 that the gateway itself reads or writes.

References: https://www.postgresql.org/docs/current/protocol-message-formats.html, and the Amazon Redshift Python driver
for the startup parameters that only Redshift supports.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from anyio.abc import ByteReceiveStream

CANCEL_REQUEST = (1234 << 16) | 5678
SSL_REQUEST = (1234 << 16) | 5679
GSSENC_REQUEST = (1234 << 16) | 5680

CLEARTEXT_PASSWORD_REQUEST = b"R" + struct.pack("!ii", 8, 3)

# PostgreSQL's own limits for clients that have not logged in.
MAX_STARTUP_BYTES = 10_000
MAX_PASSWORD_BYTES = 65_535

# Run-time parameters that drivers set at startup. Others (`driver_version`, `client_protocol_version`, `plugin_name`,
# ...) are for Redshift, and PostgreSQL would reject the connection because of them.
_POSTGRES_PARAMETERS = frozenset(
    {
        "application_name",
        "client_encoding",
        "datestyle",
        "extra_float_digits",
        "geqo",
        "intervalstyle",
        "options",
        "search_path",
        "standard_conforming_strings",
        "statement_timeout",
        "timezone",
    }
)


class RefusedError(Exception):
    """Ends the connection; `sqlstate` and the message are sent to the client."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


@dataclass(frozen=True)
class StartupPacket:
    """The first packet of a client: a protocol version or a request code, and the rest, undecoded."""

    code: int
    body: bytes = field(repr=False)

    def encode(self) -> bytes:
        """Return the packet as sent over the wire."""
        return struct.pack("!ii", len(self.body) + 8, self.code) + self.body


async def read_startup_packet(stream: ByteReceiveStream) -> StartupPacket:
    """Read exactly one packet; raises `RefusedError` for an invalid one, `EndOfStream` for a truncated one."""
    length, code = struct.unpack("!ii", await _read_exactly(stream, 8))
    if not 8 <= length <= MAX_STARTUP_BYTES:
        raise RefusedError("08P01", "invalid length of startup packet")
    return StartupPacket(code, await _read_exactly(stream, length - 8))


def startup_parameters(packet: StartupPacket) -> dict[str, str]:
    """Return the parameters of a StartupMessage; raises `RefusedError` for any other packet."""
    if packet.code >> 16 != 3:
        version = f"{packet.code >> 16}.{packet.code & 0xFFFF}"
        raise RefusedError("0A000", f"unsupported frontend protocol {version}: server supports 3.0 to 3.2")
    try:
        strings = packet.body.decode().split("\0")
    except UnicodeDecodeError:
        raise RefusedError("22021", 'invalid byte sequence for encoding "UTF8" in startup packet') from None
    if len(strings) < 2 or len(strings) % 2 or strings[-2:] != ["", ""]:
        raise RefusedError("08P01", "invalid startup packet layout: expected terminator as last byte")
    parameters = dict(zip(strings[:-2:2], strings[1:-2:2], strict=True))
    if not parameters.get("user"):
        raise RefusedError("28000", "no PostgreSQL user name specified in startup packet")
    return parameters


def startup_message(packet: StartupPacket, parameters: Mapping[str, str], *, role: str, database: str) -> bytes:
    """Return the client's StartupMessage with `role` as its user, and without parameters that only Redshift supports.

    The version and `_pq_.` options are passed on unchanged: PostgreSQL negotiates those with the client.
    """
    kept = {
        name: value
        for name, value in parameters.items()
        if name.lower() in _POSTGRES_PARAMETERS or name.startswith("_pq_.")
    }
    strings = [string for pair in {"user": role, "database": database, **kept}.items() for string in pair]
    return StartupPacket(packet.code, "\0".join([*strings, "", ""]).encode()).encode()


async def read_password(stream: ByteReceiveStream) -> str:
    """Read a PasswordMessage; raises `RefusedError` for any other message."""
    kind, length = struct.unpack("!ci", await _read_exactly(stream, 5))
    if kind != b"p":
        raise RefusedError("08P01", "expected password response, got another message")
    if not 5 <= length <= MAX_PASSWORD_BYTES:
        raise RefusedError("08P01", "invalid password packet size")
    # Invalid UTF-8 matches no token, and must not raise an error that quotes it.
    return (await _read_exactly(stream, length - 4)).removesuffix(b"\0").decode(errors="replace")


def fatal_error(sqlstate: str, message: str) -> bytes:
    """Return an ErrorResponse that ends the session."""
    fields = f"SFATAL\0C{sqlstate}\0M{message}\0\0".encode(errors="replace")
    return b"E" + struct.pack("!i", len(fields) + 4) + fields


async def _read_exactly(stream: ByteReceiveStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += await stream.receive(count - len(data))
    return data
