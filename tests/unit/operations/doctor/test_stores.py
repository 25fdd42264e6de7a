"""Stores are tried: written, read, emptied again."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from redshift_secrets.cache.host.store import HostStore
from redshift_secrets.cache.redis.store import RedisStore
from redshift_secrets.cache.sealing import Seal
from redshift_secrets.operations.doctor.stores import store_verdicts
from redshift_secrets.settings import Settings
from redshift_secrets.settings.redis_url import parse
from tests.support.redis_servers import RedisServer

KEY = Fernet.generate_key().decode()


def host(folder: Path, clock) -> HostStore:
    return HostStore(folder, Seal([KEY]), clock=clock)


def said(settings, stores, keys=None, **changes):
    return [
        (each.status, each.message)
        for each in store_verdicts(Settings.from_kwargs(settings), lambda: stores, keys, **changes)
    ]


def test_a_host_store_that_can_be_used(tmp_path, clock):
    folder = tmp_path / "store"
    store = host(folder, clock)
    first, second = said({}, [store], clock=clock, monotonic=iter([1.0, 1.004]).__next__)
    assert first == (
        "ok",
        f"host store {folder} (on disk, only for this OS user), sealed with a key file of this host"
        f" ({store.describe().fingerprint}): a row was written and read in 4 ms",
    )
    assert second == ("ok", "no fleet store (cache.redis_url is not set): each host lists and mints for itself")
    assert store.describe().rows == 0


@pytest.mark.parametrize(
    ("settings", "keys", "name"),
    [
        ({}, None, "a key file of this host"),
        ({}, (KEY,), "[core] fernet_key"),
        ({"cache": {"key": KEY}}, (KEY,), "cache.key"),
    ],
)
def test_which_key_seals(tmp_path, clock, settings, keys, name):
    (_, message), _ = said(settings, [host(tmp_path / "store", clock)], keys, clock=clock)
    assert f"sealed with {name} (" in message
    assert KEY not in message


def test_a_folder_that_is_open_to_others(tmp_path, clock):
    folder = tmp_path / "store"
    folder.mkdir(mode=0o755)
    (status, message), _ = said({}, [host(folder, clock)], clock=clock)
    assert status == "problem"
    assert "is open to others; remove it, or chmod 700" in message


def test_a_database_that_cannot_be_written(tmp_path, clock):
    folder = tmp_path / "store"
    store = host(folder, clock)
    (folder / "store.sqlite").mkdir(parents=True)
    folder.chmod(0o700)
    (status, message), _ = said({}, [store], clock=clock)
    assert status == "problem"
    assert "store.sqlite is not a file; remove it" in message


def test_no_host_store(tmp_path):
    (status, message), _ = said({"cache": {"host": False}}, [])
    assert status == "ok"
    assert "cache.host is off" in message
    (status, message), _ = said({}, [])
    assert status == "problem"
    assert "Set cache.path" in message


@pytest.fixture(scope="module")
def redis():
    with RedisServer() as server:
        yield server


def fleet(url: str, clock) -> RedisStore:
    return RedisStore(parse(url), Seal([KEY]), clock=clock, patience_seconds=30)


def test_a_fleet_store_that_can_be_used(redis, clock):
    settings = {"cache": {"host": False, "redis_url": redis.url, "key": KEY}}
    _, (status, message) = said(settings, [fleet(redis.url, clock)], clock=clock)
    assert status == "ok"
    assert message.startswith("fleet store unix:///")
    assert "sealed with cache.key" in message
    with redis.admin() as admin:
        assert admin.keys("*") == []


def test_a_fleet_store_that_is_not_there(clock):
    settings = {"cache": {"host": False, "redis_url": "redis://me:planted@127.0.0.1:1/0", "key": KEY}}
    _, (status, message) = said(settings, [fleet("redis://me:planted@127.0.0.1:1/0", clock)], clock=clock)
    assert status == "problem"
    assert "redis://127.0.0.1:1/0" in message
    assert "Connection refused" in message
    assert "planted" not in message
