"""Seals what leaves this process: nobody else can read it, change it, or move it to another place."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import stat
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from redshift_secrets.cache.host.paths import ensure_private_dir

KEY_FILE = "host.key"


@functools.cache
def load_algorithms() -> None:
    """Have OpenSSL load its algorithms, which takes a millisecond at their first use: once for all processes that are forked
    from this one."""
    fernet = Fernet(base64.urlsafe_b64encode(bytes(32)))
    fernet.decrypt(fernet.encrypt(b""))


class Seal:
    """Fernet with several keys: the first one seals, all of them open. Safe among threads and after a fork."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Raises `ValueError` for what is no Fernet key; the message has no key in it."""
        self._fernet = MultiFernet([Fernet(key) for key in keys])
        self.fingerprints = tuple(_fingerprint(key) for key in keys)
        self.fingerprint = self.fingerprints[0]
        """A short digest that identifies the first key without revealing it: 8 hexadecimal digits."""

    def __repr__(self) -> str:
        return f"Seal(fingerprint={self.fingerprint!r})"

    def seal(self, group: str, name: str, payload: bytes) -> bytes:
        """Return `payload` sealed for this place alone."""
        # The token's bytes without base64: a quarter less to keep in memory, and only one way to write each.
        return base64.urlsafe_b64decode(self._fernet.encrypt(_place(group, name) + payload))

    def open(self, group: str, name: str, sealed: bytes) -> bytes | None:
        """Return what `seal` was given; `None` for anything that was not sealed for this place with one of the keys."""
        try:
            opened = self._fernet.decrypt(base64.urlsafe_b64encode(sealed))
        except InvalidToken:
            return None
        place = _place(group, name)
        return opened[len(place) :] if opened.startswith(place) else None

    def open_all(self, groups: Mapping[str, Mapping[str, bytes]]) -> dict[str, dict[str, bytes]]:
        """Return the rows of each group by name, as `open` does, without those for which it returns `None`."""
        return {
            group: {name: row for name, each in sealed.items() if (row := self.open(group, name, each)) is not None}
            for group, sealed in groups.items()
        }


def password_fingerprint(key: str, password: str) -> str:
    """Return 16 hexadecimal digits that are the same for the same password: nobody without the key can guess it from them."""
    import hmac  # few processes need it

    # A key of its own: what is sealed with the other one says nothing about this one.
    derived = hmac.digest(base64.urlsafe_b64decode(key), b"redshift-secrets password fingerprint", "sha256")
    return hmac.digest(derived, password.encode("utf-8", "surrogatepass"), "sha256").hex()[:16]


def _fingerprint(key: str) -> str:
    content = b"redshift-secrets key fingerprint\0" + base64.urlsafe_b64decode(key)
    return hashlib.sha256(content).hexdigest()[:8]


def _place(group: str, name: str) -> bytes:
    """A digest of the place, of fixed length, so that no group and name together look like another pair."""
    group_bytes, name_bytes = (text.encode("utf-8", "surrogatepass") for text in (group, name))
    return hashlib.sha256(len(group_bytes).to_bytes(8, "big") + group_bytes + name_bytes).digest()


def host_key(folder: Path) -> str:
    """Return the key in a file of `folder` that only the OS user can read; the first process creates it.

    Raises `OSError` where folder or file cannot be read or created, or cannot be trusted: a symbolic link, another user's,
    open to others, or not a key.
    """
    ensure_private_dir(folder)
    path = folder / KEY_FILE
    try:
        return _read_key(path)
    except FileNotFoundError:
        _create_key(path)
        return _read_key(path)


def _create_key(path: Path) -> None:
    """Put a new key at `path`, whole from the first moment; of several processes at once, one wins."""
    descriptor, temporary = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # mode 0600, O_EXCL
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(Fernet.generate_key())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return  # another process was faster, its key is everyone's
    finally:
        os.unlink(temporary)


def _check_is_file(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise PermissionError(f"{path} is not a file; remove it")


def _read_key(path: Path) -> str:
    # The checks are made on the open file, so that nobody can replace it in between.
    # O_NONBLOCK: opening a pipe would wait for a writer.
    # A link or a folder cannot even be opened so, which the system says in other words.
    _check_is_file(path, os.lstat(path))
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        _check_is_file(path, status)
        if status.st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to user {status.st_uid}, not to user {os.geteuid()}; remove it")
        if status.st_mode & 0o077:
            raise PermissionError(f"others may read {path}, so its key is no longer secret; remove it")
        content = file.read(1024)
    try:
        key = content.decode("ascii")
        Seal([key])
    except ValueError:
        raise OSError(f"{path} does not hold a key; remove it") from None
    return key
