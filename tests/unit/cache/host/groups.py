"""One group of a host store: reading it, and finding it in the database."""

from __future__ import annotations

from collections.abc import Sequence

from redshift_secrets.cache.host.store import HostStore
from redshift_secrets.cache.sealing import Seal


def read(store: HostStore, group: str, names: Sequence[str]) -> dict[str, bytes]:
    return store.read({group: names})[group]


def name_in_database(seal: Seal, group: str) -> str:
    return f"{group}/{seal.fingerprint}"
