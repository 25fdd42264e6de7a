"""Keys of the host store: the first one seals, all of them open, and sites with different keys do not share."""

from __future__ import annotations

import re

import pytest
from cryptography.fernet import Fernet

from redshift_secrets.cache.host.store import HostStore
from redshift_secrets.cache.sealing import Seal

OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))


@pytest.fixture
def store(tmp_path, clock):
    def store(*keys: str) -> HostStore:
        """Return the store of a process of a site with these keys."""
        return HostStore(tmp_path / "store", Seal(keys), clock=clock)

    return store


@pytest.fixture
def later(clock):
    return clock() + 100


def read(store: HostStore, *groups: str) -> list[bytes | None]:
    """Return the row of each group."""
    found = store.read({group: ["row"] for group in groups})
    return [found[group].get("row") for group in groups]


def test_replacing_a_key_loses_nothing(store, later):
    store(OLD).replace("g", {"row": b"old"}, later)
    assert [read(store(*keys), "g") for keys in ([NEW, OLD], [OLD], [NEW])] == [[b"old"], [b"old"], [None]]
    store(NEW, OLD).replace("g", {"row": b"new"}, later)
    # The old key is no longer needed, and a process that has no other yet keeps what it had.
    assert [read(store(*keys), "g") for keys in ([NEW, OLD], [NEW], [OLD])] == [[b"new"], [b"new"], [b"old"]]


def test_groups_of_either_key_are_read_at_once(store, later):
    store(OLD).replace("g", {"row": b"old"}, later)
    store(NEW).replace("h", {"row": b"new"}, later)
    assert read(store(NEW, OLD), "g", "h", "missing") == [b"old", b"new", None]


def test_a_row_that_the_new_group_does_not_have_is_not_taken_from_the_old_one(store, later):
    store(OLD).replace("g", {"row": b"old"}, later)
    store(NEW, OLD).replace("g", {"another": b"new"}, later)
    assert read(store(NEW, OLD), "g") == [None]


def test_a_group_that_is_replaced_with_nothing_is_empty_for_all_keys_of_the_writer(store, later):
    store(OLD).replace("g", {"row": b"old"}, later)
    store(OTHER).replace("g", {"row": b"other"}, later)
    store(NEW, OLD).replace("g", {"row": b"new"}, later)
    store(NEW, OLD).replace("g", {}, later)
    assert [read(store(*keys), "g") for keys in ([NEW, OLD], [OLD], [OTHER])] == [[None], [None], [b"other"]]


def test_a_group_that_is_cleared_is_empty_whatever_key_it_is_sealed_with(store, later):
    for key in (OLD, NEW, OTHER):
        for group in ("g", "f", "g+", "g!", "ga"):
            store(key).replace(group, {"row": b"row"}, later)
    store(NEW).clear("g")
    for key in (OLD, NEW, OTHER):
        found = {group: read(store(key), group) for group in ("g", "f", "g+", "g!", "ga")}
        assert found == {"g": [None], "f": [b"row"], "g+": [b"row"], "g!": [b"row"], "ga": [b"row"]}


def test_two_sites_with_different_keys_do_not_share(store, later):
    store(OLD).replace("g", {"row": b"one"}, later)
    assert read(store(OTHER), "g") == [None]
    store(OTHER).replace("g", {"row": b"other"}, later)
    assert [read(store(OLD), "g"), read(store(OTHER), "g")] == [[b"one"], [b"other"]]


def test_sites_that_seal_with_one_key_exclude_each_other(store):
    lease = store(NEW, OLD).try_lock("g")
    assert store(NEW).try_lock("g") is None
    assert store(OLD).try_lock("g") is not None
    lease.release()


def test_no_key_is_in_the_store(store, tmp_path, later):
    store(NEW, OLD).replace("g", {"row": b"new"}, later)
    content = b"".join(path.read_bytes() for path in (tmp_path / "store").iterdir())
    assert not re.search("|".join(map(re.escape, (OLD, NEW))).encode(), content)
