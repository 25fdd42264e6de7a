"""The sqlite3 database of the host store: how it is opened, what is in it, and when it is corrupt.

The way to open it was chosen by measuring, on tmpfs and on ext4, two rows read by a process that has just started:
- Rollback journal (sqlite3's default): 65 to 75 us, whatever the size. WAL: 135 to 190 us, because each short-lived
  reader maps the shared index and the last one to leave checkpoints.
- Pages of 8 KiB: a row of 1600 bytes fits into one page. With 4 KiB it overflows into a page of its own, and 10,000 rows
  take 47 MB instead of 16 and 140 ms to replace instead of 47. Readers are shut out for 5 ms of that.
- No connection is kept: opening one costs 50 us, and an open one may not cross a fork.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from msgspec import Struct

from redshift_secrets.cache import forks

_VERSION = 1
_PAGE_BYTES = 8192
_MAX_BYTES = 256 * 1024 * 1024
"""More is not written: a store in memory must not eat the host. 10,000 rows take about 16 MB."""

_READ_WAIT_SECONDS = 0.1
_WRITE_WAIT_SECONDS = 0.5
"""Writers wait longer for a locked store than readers: only the refreshing process waits, and a lost write costs a refresh."""

_NOT_CORRUPTION = ("locked", "full", "disk I/O", "unable to open", "locking protocol", "interrupted")
"""What sqlite3 says when the database may well be intact. By words, since Python 3.10 does not expose the codes."""

FAILURES = (sqlite3.Error, OSError, MemoryError, UnicodeDecodeError)
"""What may be raised here. Corrupt files also raise `MemoryError` (by a length) and `UnicodeDecodeError` (by a message)."""

_SCHEMA = (
    "CREATE TABLE groups (grp BLOB PRIMARY KEY, expires_at REAL NOT NULL, generation BLOB) WITHOUT ROWID",
    "CREATE TABLE rows (grp BLOB, name BLOB, sealed BLOB NOT NULL, PRIMARY KEY (grp, name)) WITHOUT ROWID",
    f"PRAGMA user_version = {_VERSION}",
)

_one_at_a_time = threading.RLock()
"""Threads of a process queue here, in order, instead of in sqlite3, where of 64 some would wait too long and lose a write.
No fork finds it taken by another thread: it is only taken inside `forks.no_fork_here`."""


class WrongVersionError(sqlite3.DatabaseError):
    """The database was made by another version of this package."""


def is_corruption(error: Exception) -> bool:
    """Whether the database is corrupt, so that a new one would help; else the disk, a lock or the system is at fault."""
    if isinstance(error, sqlite3.OperationalError):
        return not any(words in str(error) for words in _NOT_CORRUPTION)
    return isinstance(error, FAILURES) and not isinstance(error, OSError)


def is_missing(error: Exception) -> bool:
    """Whether there was no file to open."""
    return isinstance(error, sqlite3.OperationalError) and "unable to open" in str(error)


def is_locked(error: Exception) -> bool:
    """Whether another process was writing, so that the next write may succeed."""
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def key(text: str) -> bytes:
    """Return the text as bytes, so that neither odd characters nor flipped bits can make text that is not Unicode."""
    return text.encode("utf-8", "surrogatepass")


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that sees one moment of the database, which must exist."""
    with _connection(path, _READ_WAIT_SECONDS) as connection:
        connection.execute("BEGIN")
        yield connection


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """A transaction that readers see all of or nothing, also when the process is killed in it. The file must exist."""
    with _connection(path, _WRITE_WAIT_SECONDS) as connection:
        # After a power cut the store may be corrupt, and is deleted; until then it costs no fsync.
        connection.execute("PRAGMA synchronous = OFF")
        # Pages stay in memory until the end, or readers would be shut out from the first page that does not.
        connection.execute("PRAGMA cache_spill = OFF")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        connection.execute(f"PRAGMA max_page_count = {_MAX_BYTES // _PAGE_BYTES}")
        connection.execute("BEGIN IMMEDIATE")
        if not _has_tables(connection):
            for statement in _SCHEMA:
                connection.execute(statement)
        yield connection
        connection.execute("COMMIT")


@contextmanager
def _connection(path: Path, wait: float) -> Iterator[sqlite3.Connection]:
    uri = f"{path.as_uri()}?mode=rw"  # never makes a file: sqlite3 would let others read it
    # A fork in the middle of a call would leave sqlite3's own locks taken in the child, for good.
    with (
        forks.no_fork_here,
        _one_at_a_time,
        closing(sqlite3.connect(uri, uri=True, timeout=wait, isolation_level=None)) as connection,
    ):
        yield connection


def _has_tables(connection: sqlite3.Connection) -> bool:
    """Whether the tables of this package exist; `False` in an empty database, `WrongVersionError` in another version's."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version not in (0, _VERSION):
        raise WrongVersionError(f"version {version} is not version {_VERSION}")
    return bool(version)


class Rows(Struct, frozen=True):
    """Rows of a group by name, and which `replace` wrote the group last, in a corrupt database anything."""

    generation: object
    sealed: Mapping[str, bytes]


def select(path: Path, wanted: Mapping[str, Iterable[str]]) -> dict[str, Rows]:
    """Return those of the named rows that are there, for each group that is there, all of one moment."""
    with reading(path) as connection:
        if not _has_tables(connection):
            return {}
        found = {group: _rows(connection, group, names) for group, names in wanted.items()}
        return {group: rows for group, rows in found.items() if rows is not None}


def _rows(connection: sqlite3.Connection, group: str, names: Iterable[str]) -> Rows | None:
    of_group = connection.execute("SELECT generation FROM groups WHERE grp = ?", (key(group),)).fetchone()
    if of_group is None:
        return None
    sealed = {}
    for name in names:
        query = "SELECT sealed FROM rows WHERE grp = ? AND name = ?"
        row = connection.execute(query, (key(group), key(name))).fetchone()
        if row is not None and isinstance(row[0], bytes):  # in a corrupt database it may be anything
            sealed[name] = row[0]
    return Rows(of_group[0], sealed)


def replace(path: Path, groups: Sequence[str], rows: Rows, expires_at: float, now: float) -> bool:
    """Make `rows` all that the first of the groups has, remove the others, and every group that has expired by `now`.

    Returns `True`.
    """
    group = groups[0]
    with writing(path) as connection:
        for each in groups:
            connection.execute("DELETE FROM rows WHERE grp = ?", (key(each),))
            connection.execute("DELETE FROM groups WHERE grp = ?", (key(each),))
        connection.execute("DELETE FROM rows WHERE grp IN (SELECT grp FROM groups WHERE expires_at <= ?)", (now,))
        connection.execute("DELETE FROM groups WHERE expires_at <= ?", (now,))
        if rows.sealed:
            connection.execute("INSERT INTO groups VALUES (?, ?, ?)", (key(group), expires_at, rows.generation))
            values = ((key(group), key(name), each) for name, each in rows.sealed.items())
            connection.executemany("INSERT INTO rows VALUES (?, ?, ?)", values)
            # Where a tree is corrupt, a row may go where no search will find it, or behind an older one.
            if _rows(connection, group, rows.sealed) != rows:
                raise sqlite3.DatabaseError("what was written is not what is read")
    return True


def remove(path: Path, prefix: str) -> bool:
    """Remove every group whose name begins so. Returns `True`."""
    begin = key(prefix)
    end = begin[:-1] + bytes([begin[-1] + 1])
    with writing(path) as connection:
        connection.execute("DELETE FROM rows WHERE grp >= ? AND grp < ?", (begin, end))
        connection.execute("DELETE FROM groups WHERE grp >= ? AND grp < ?", (begin, end))
    return True


def count(path: Path, now: float) -> tuple[int, int]:
    """Return how many groups have not expired, and how many rows are in them."""
    with reading(path) as connection:
        if not _has_tables(connection):
            return 0, 0
        unexpired = "FROM groups WHERE expires_at > ?"
        (groups,) = connection.execute(f"SELECT count(*) {unexpired}", (now,)).fetchone()
        (rows,) = connection.execute(
            f"SELECT count(*) FROM rows WHERE grp IN (SELECT grp {unexpired})", (now,)
        ).fetchone()
        return groups, rows
