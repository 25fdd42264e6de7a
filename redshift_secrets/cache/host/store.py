"""The host store: one sealed database per OS user, in a folder nobody else can enter, and a lock for each refresh."""

from __future__ import annotations

import os
import stat
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote_from_bytes

from msgspec import Struct

from redshift_secrets.cache import get_logger
from redshift_secrets.cache.host import database
from redshift_secrets.cache.host.files import make_file, time_ns, touch
from redshift_secrets.cache.host.locks import FileLock, remove_old_locks
from redshift_secrets.cache.host.paths import check_private_dir, ensure_private_dir, is_memory_backed
from redshift_secrets.cache.sealing import Seal
from redshift_secrets.cache.store import FreeLease, Lease, Rows

log = get_logger(__name__)

T = TypeVar("T")

_QUIET_SECONDS = 3600.0
"""How long a problem that was logged is not logged again."""

_LEASE = "lease-"
"""The begin of the name of every lock file that is a lease."""

_OLD_LOCK_SECONDS = 3600.0
"""How old the lock file of a killed process must be to be removed."""

_COMPANIONS = ("-journal", "-wal", "-shm")
"""Files that sqlite3 looks for beside the database."""

_ATTEMPTS = 3
"""How often the database is opened: again after a corrupt one was deleted, by this process or by another one."""

_REMOVAL_WAIT_SECONDS, _REMOVAL_POLL_SECONDS = 1.0, 0.01
"""How long `clear` waits for another process that is removing the database, and how often it looks."""

_HEADER = struct.Struct(">dd8s")
"""In front of each row, and sealed with it: when it was written and when it expires, so that nobody can extend it, and the
generation of its group, so that no row of an older one gets among the new ones."""

_UNWRITABLE_SECONDS = 10.0
"""How long after a write that failed no process waits for an entry of another one, which may never appear."""

_STEP_SECONDS = 2.0
"""How far a clock may be set back before everything written earlier is ignored."""


class HostStoreInfo(Struct, frozen=True):
    """What `redshift-secrets cache` shows: the file's size in bytes, groups and rows that have not expired."""

    folder: Path
    size: int
    groups: int
    rows: int
    fingerprint: str
    memory_backed: bool


class _File(Struct, frozen=True):
    """Tells a database file from the next one at the same path, and from itself after a change."""

    device: int
    inode: int
    changed_ns: int


class HostStore:
    """A `SharedStore` in `folder`, which is made when it is first needed. `clock`: seconds since the epoch.

    A group is stored with the fingerprint of the key that seals it, so that two Airflows of one OS user with different keys
    do not overwrite each other's. A group that is not there is read with the next fingerprint: an older key sealed it.
    """

    name: str = "host"
    across_hosts: bool = False

    def __init__(self, folder: Path, seal: Seal, *, clock: Callable[[], float]) -> None:
        self._folder = folder.absolute()
        self._path = self._folder / "store.sqlite"
        # Its age says when a write failed.
        self._unwritable = self._folder / "unwritable"
        self._flushed = self._folder / "flushed"
        self._seal = seal
        self._clock = clock
        self._logged: dict[str, float] = {}

    def read(self, wanted: Mapping[str, Sequence[str]]) -> dict[str, dict[str, bytes]]:
        """See `SharedStore`. All rows are of one moment: never some from before a `replace` and some from after."""
        keys = {group: self._keys(group) for group in wanted}
        names = {key: wanted[group] for group in wanted for key in keys[group]}
        found = self._try(lambda: database.select(self._path, names)) or {}
        newest = {group: next((key for key in keys[group] if key in found), None) for group in wanted}
        opened = self._seal.open_all({key: found[key].sealed for key in newest.values() if key is not None})
        now = self._clock()
        return {
            group: {} if key is None else self._current(opened[key], found[key].generation, now)
            for group, key in newest.items()
        }

    def replace(self, group: str, rows: Rows, expires_at: float) -> None:
        """See `SharedStore`. What has ended in other groups is removed as well."""
        now = self._clock()
        generation = os.urandom(8)
        head = _HEADER.pack(now, expires_at, generation)
        # Sealed before the store is locked: 10,000 rows take longer to seal than to write.
        key, *older = self._keys(group)
        sealed = {name: self._seal.seal(key, name, head + row) for name, row in rows.items() if expires_at > now}
        new = database.Rows(generation, sealed)
        # What an older key sealed stays for processes that only have that one, unless it would be read in place of nothing.
        replaced = [key] if sealed else [key, *older]
        if self._try(lambda: database.replace(self._path, replaced, new, expires_at, now), writes=True):
            with suppress(OSError):
                os.unlink(self._unwritable)
            remove_old_locks(self._folder, _LEASE, now - _OLD_LOCK_SECONDS)

    def try_lock(self, group: str) -> Lease | None:
        """See `SharedStore`. The lease ends with the process, however it ends; threads exclude each other as well."""
        try:
            ensure_private_dir(self._folder)
        except OSError as error:
            self._log_unusable(error)
            return FreeLease()
        if self._is_unwritable():
            return FreeLease()
        return self._lock(self._lease_name(group))

    def is_taken(self, group: str) -> bool:
        """See `SharedStore`. Whoever releases a lease removes its file."""
        return os.path.lexists(self._folder / self._lease_name(group))

    def clear(self, group: str | None = None) -> str | None:
        """See `SharedStore`. Where a group cannot be removed from the database, all of it goes."""
        if not os.path.exists(self._folder):
            return None
        if group is not None and self._try(lambda: database.remove(self._path, f"{group}/"), writes=True):
            return None
        try:
            check_private_dir(self._folder)
            self._remove(_file(self._path), _REMOVAL_WAIT_SECONDS)
        except FileNotFoundError:
            pass  # there is nothing to clear
        except OSError as error:
            self._log_unusable(error)
            return _message(error)
        return None

    def mark_flushed(self) -> str | None:
        """See `SharedStore`. The mark is the time of an empty file, which goes up also where the clock was set back."""
        try:
            ensure_private_dir(self._folder)
            # At least a second after the last one: some file systems keep no fractions.
            touch(self._flushed, max(int(self._clock() * 10**9), (time_ns(self._flushed) or 0) + 10**9))
        except OSError as error:
            self._log_unusable(error)
            return _message(error)
        return None

    def flush_mark(self) -> str | None:
        """See `SharedStore`."""
        try:
            check_private_dir(self._folder)
            status = os.lstat(self._flushed)
        except OSError:
            return None
        return f"{status.st_ino} {status.st_mtime_ns}"

    def describe(self) -> HostStoreInfo:
        """Return what is in the store now; zeros where it cannot be used."""
        now = self._clock()
        groups, rows = self._try(lambda: database.count(self._path, now)) or (0, 0)
        try:
            size = os.lstat(self._path).st_size
        except OSError:
            size = 0
        memory_backed = is_memory_backed(self._folder)
        return HostStoreInfo(self._folder, size, groups, rows, self._seal.fingerprint, memory_backed)

    def _keys(self, group: str) -> list[str]:
        """The names of the group in the database, one for each key of the seal."""
        return [f"{group}/{fingerprint}" for fingerprint in self._seal.fingerprints]

    def _lease_name(self, group: str) -> str:
        return f"{_LEASE}{quote_from_bytes(database.key(self._keys(group)[0]), safe='')}.lock"

    def _current(self, rows: Rows, generation: object, now: float) -> dict[str, bytes]:
        """The rows of this generation that have not expired, without their headers."""
        current = {}
        for name, row in rows.items():
            if len(row) < _HEADER.size:
                continue
            written_at, expires_at, row_generation = _HEADER.unpack_from(row)
            if row_generation != generation or now >= expires_at:
                continue
            if now < written_at - _STEP_SECONDS:
                self._log(
                    "clock", f"{self._path} was written {written_at - now:.0f} s from now: the clock was set back"
                )
                continue
            current[name] = row[_HEADER.size :]
        return current

    def _try(self, work: Callable[[], T], *, writes: bool = False) -> T | None:
        """Return what `work` does with the database; `None` where there is none, or none that can be used."""
        for _ in range(_ATTEMPTS):
            found, private = None, False
            try:
                if writes:
                    ensure_private_dir(self._folder)
                    private = True
                    make_file(self._path)  # which is an empty database; sqlite3's journal takes after it
                else:
                    check_private_dir(self._folder)
                found = _file(self._path)
                return work()
            except FileNotFoundError:
                return None
            except database.FAILURES as error:
                if found is not None and database.is_corruption(error):
                    self._delete_corrupt(found, error)
                elif found is None or not (database.is_missing(error) and _is_gone(self._path, found)):
                    self._log_unusable(error)
                    if private and not database.is_locked(error):
                        self._mark_unwritable()
                    return None
        return None

    def _mark_unwritable(self) -> None:
        with suppress(OSError):
            touch(self._unwritable, int(self._clock() * 10**9))

    def _is_unwritable(self) -> bool:
        try:
            return abs(self._clock() - os.lstat(self._unwritable).st_mtime) < _UNWRITABLE_SECONDS
        except OSError:
            return False

    def _delete_corrupt(self, found: _File, damage: Exception) -> None:
        try:
            removed = self._remove(found)
        except OSError as error:
            self._log_unusable(error)
        else:
            if removed:
                self._log("corruption", f"{self._path} was corrupt and has been deleted ({_message(damage)})")

    def _remove(self, found: _File, wait: float = 0.0) -> bool:
        """Remove the database, unless another process is doing it or has put a new one there since it was `found`. Raises
        `TimeoutError` where that process does not end while this one may `wait`."""
        end = time.monotonic() + wait
        while (lock := self._lock("store.lock")) is None:
            if not wait:
                return False
            if time.monotonic() >= end:
                raise TimeoutError(f"another process has {self._folder / 'store.lock'} and does not go on")
            time.sleep(_REMOVAL_POLL_SECONDS)
        try:
            if _file(self._path) != found:
                return False
            # First the journal: left alone, it would be played back into the next database.
            for suffix in (*_COMPANIONS, ""):
                with suppress(FileNotFoundError):
                    os.unlink(f"{self._path}{suffix}")
            return True
        except FileNotFoundError:
            return False
        finally:
            lock.release()

    def _lock(self, name: str) -> Lease | None:
        try:
            return FileLock.acquire(self._folder / name)
        except OSError as error:
            self._log_unusable(error)
            return FreeLease()

    def _log_unusable(self, error: Exception) -> None:
        message = _message(error)
        self._log(message, f"{self._folder} cannot be used, so processes of this host share nothing: {message}")

    def _log(self, kind: str, problem: str) -> None:
        now = self._clock()
        logged = self._logged.get(kind)
        if logged is None or abs(now - logged) >= _QUIET_SECONDS:
            self._logged[kind] = now
            log.warning("host store: %s", problem)


def _message(error: Exception) -> str:
    return str(error) or type(error).__name__


def _file(path: Path) -> _File:
    """Return what identifies the database; raises `PermissionError` for what is not a file, which would block when read."""
    status = os.lstat(path)
    for each in (str(path), *(f"{path}{suffix}" for suffix in _COMPANIONS)):
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(os.lstat(each).st_mode):
                raise PermissionError(f"{each} is not a file; remove it")
    return _File(status.st_dev, status.st_ino, status.st_ctime_ns)


def _is_gone(path: Path, found: _File) -> bool:
    try:
        return _file(path) != found
    except FileNotFoundError:
        return True
