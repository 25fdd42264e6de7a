from __future__ import annotations

import pytest
from cryptography.fernet import Fernet

from redshift_secrets.cache.host import database
from redshift_secrets.cache.host.store import HostStore
from redshift_secrets.cache.sealing import Seal


@pytest.fixture(scope="session")
def seal():
    return Seal([Fernet.generate_key().decode()])


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "host store?#%"  # characters that have a meaning in a URI


@pytest.fixture
def store(folder, seal, clock):
    return HostStore(folder, seal, clock=clock)


@pytest.fixture
def later(clock):
    return clock() + 100


@pytest.fixture
def impatient(monkeypatch):
    """Do not wait for a locked database."""
    for name in ("_READ_WAIT_SECONDS", "_WRITE_WAIT_SECONDS"):
        monkeypatch.setattr(database, name, 0.0)
