from __future__ import annotations

import os
import subprocess

import pytest
from cryptography.fernet import Fernet

from redshift_secrets.cache.host import database
from redshift_secrets.cache.host.store import HostStore
from redshift_secrets.cache.sealing import Seal
from tests.unit.cache.host.disks import fill


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


@pytest.fixture
def mount(tmp_path):
    """A function that mounts a small memory disk with the given options and returns its path; skips where it may not."""
    point = tmp_path / "disk"
    point.mkdir()
    mounted = []

    def mount(options: str):
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(point)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
        mounted.append(point)
        return point

    try:
        if os.geteuid() != 0:
            pytest.skip("mounting a small disk takes root")
        yield mount
    finally:
        for each in mounted:
            subprocess.run(["umount", str(each)], check=True)


@pytest.fixture
def full_disk(mount):
    disk = mount("size=256k")
    fill(disk)
    return disk
