"""The fleet tier with a real Redis: rows, their expiry, the mark of the last flush."""

from __future__ import annotations

import socket
import threading

import pytest
from cryptography.fernet import Fernet

from redshift_secrets.cache.sealing import Seal
from tests.support.redis_servers import KEY, NOW, fleet_store, until

SECRET = b"the-password-that-aws-minted"
LATER = NOW + 600


# --- rows


def test_another_host_reads_what_one_writes(server, store):
    store.replace("credential", {"a": SECRET, "b": b""}, LATER)
    assert fleet_store(server.url).read({"credential": ["a", "b", "missing"]})["credential"] == {"a": SECRET, "b": b""}
    assert store.read({"another group": ["a"]})["another group"] == {}
    assert store.read({"credential": []}) == {"credential": {}}
    assert store.read({}) == {}


def test_several_groups_are_read_at_once(server, store):
    store.replace("catalog", {"a": b"1", "b": b"2"}, LATER)
    store.replace("credential", {"a": SECRET}, LATER)
    wanted = {"catalog": ["b"], "credential": ["a", "missing"], "absent": ["a"], "unasked": []}
    found = fleet_store(server.url).read(wanted)
    assert found == {"catalog": {"b": b"2"}, "credential": {"a": SECRET}, "absent": {}, "unasked": {}}


def test_replace_leaves_nothing_of_what_was_there(store):
    store.replace("g", {"old": b"1", "both": b"1"}, LATER)
    store.replace("g", {"both": b"2"}, LATER)
    assert store.read({"g": ["old", "both"]})["g"] == {"both": b"2"}
    store.replace("g", {}, LATER)
    assert store.read({"g": ["both"]})["g"] == {}


def test_readers_never_see_half_of_a_group(server, store):
    names = [f"conn_{number}" for number in range(1001)]
    versions = [{name: str(version).encode() for name in names} for version in range(8)]
    store.replace("catalog", versions[0], LATER)

    def write() -> None:
        for rows in versions[1:]:
            store.replace("catalog", rows, LATER)

    writer = threading.Thread(target=write)
    writer.start()
    reader = fleet_store(server.url)
    while writer.is_alive():
        assert reader.read({"catalog": names})["catalog"] in versions
    writer.join()
    assert reader.read({"catalog": names})["catalog"] == versions[-1]


def test_clear_removes_one_group_or_all_under_the_prefix_but_no_lease(server, store, admin):
    admin.set("somebody", "else")
    other = fleet_store(server.url, prefix="redshift-secret?:")
    for group in ("g1", "g2", "g3"):
        store.replace(group, {"a": b"1"}, LATER)
    other.replace("g1", {"a": b"other"}, LATER)
    assert store.try_lock("g3") is not None
    store.clear("g1")
    assert [store.read({group: ["a"]})[group] for group in ("g1", "g2")] == [{}, {"a": b"1"}]
    store.clear()
    assert [store.read({group: ["a"]})[group] for group in ("g2", "g3")] == [{}, {}]
    assert store.try_lock("g3") is None
    assert admin.get("somebody") == b"else"
    assert other.read({"g1": ["a"]})["g1"] == {"a": b"other"}
    other.clear()
    assert other.read({"g1": ["a"]})["g1"] == {}


def test_a_prefix_is_never_a_pattern(server, store):
    store.replace("g", {"a": b"1"}, LATER)
    for prefix in ("*", "redshift-secret?:", "[r]edshift-secrets:", "\\redshift-secrets:"):
        fleet_store(server.url, prefix=prefix).clear()
    assert store.read({"g": ["a"]})["g"] == {"a": b"1"}


# --- sealing


@pytest.mark.attempt("read what is in a store without its key")
def test_nothing_leaves_the_process_in_the_clear(server, store, admin):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.connect(str(server.path))
        listening.sendall(b"MONITOR\r\n")
        assert listening.recv(5) == b"+OK\r\n"
        store.replace("g", {"a": SECRET}, LATER)
        assert store.read({"g": ["a"]})["g"] == {"a": SECRET}
        admin.echo("end of the recording")
        recorded = b""
        while b"end of the recording" not in recorded:
            recorded += listening.recv(65536)
    assert b'"HSET"' in recorded
    assert SECRET not in recorded
    assert all(SECRET not in value for value in admin.hgetall("redshift-secrets:{g}").values())


@pytest.mark.attempt("forge, change or move what is in a store")
def test_a_row_that_was_moved_or_changed_is_ignored(store, admin, caplog):
    store.replace("g", {"a": SECRET, "b": b"2", "c": b"3"}, LATER)
    stored, key = admin.hgetall("redshift-secrets:{g}"), "redshift-secrets:{g}"
    admin.hset(key, "b", stored[b"a"])
    admin.hset(key, "c", stored[b"c"][:-9] + b"AAAAAAAA=")
    admin.hset("redshift-secrets:{h}", "a", stored[b"a"])
    assert store.read({"g": ["a", "b", "c"]})["g"] == {"a": SECRET}
    assert store.read({"h": ["a"]})["h"] == {}
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_rows_under_another_key_are_ignored_and_logged_once(server, store, caplog):
    store.replace("g", {"a": SECRET}, LATER)
    other = fleet_store(server.url, Fernet.generate_key().decode())
    assert other.read({"g": ["a"]})["g"] == other.read({"g": ["a"]})["g"] == {}
    (record,) = caplog.records
    assert "another key" in record.getMessage()
    assert KEY not in record.getMessage()


def test_rows_under_the_second_key_are_still_read(server, store):
    store.replace("g", {"a": SECRET}, LATER)
    rotated = fleet_store(server.url, Fernet.generate_key().decode(), KEY)
    assert rotated.read({"g": ["a"]})["g"] == {"a": SECRET}


def test_a_key_of_another_type_reads_as_empty_and_is_overwritten(store, admin, caplog):
    admin.set("redshift-secrets:{g}", "a string")
    assert store.read({"g": ["a"]})["g"] == {}
    store.replace("g", {"a": b"1"}, LATER)
    assert store.read({"g": ["a"]})["g"] == {"a": b"1"}
    assert caplog.records == []


def test_a_group_that_cannot_be_read_takes_no_other_with_it(store, admin, caplog):
    store.replace("g", {"a": b"1"}, LATER)
    admin.set("redshift-secrets:{of another type}", "a string")
    admin.hset("redshift-secrets:{moved}", "a", admin.hget("redshift-secrets:{g}", "a"))
    wanted = {"of another type": ["a"], "moved": ["a"], "g": ["a"]}
    assert store.read(wanted) == {"of another type": {}, "moved": {}, "g": {"a": b"1"}}
    assert len(caplog.records) == 1, "about the row that was moved"


def test_a_group_of_another_clock_takes_no_other_with_it(server, store):
    store.replace("g", {"a": b"1"}, LATER)
    fleet_store(server.url, clock=lambda: NOW + 301).replace("ahead", {"a": b"1"}, LATER)
    assert store.read({"ahead": ["a"], "g": ["a"]}) == {"ahead": {}, "g": {"a": b"1"}}


# --- expiry


def test_an_expired_row_is_ignored_even_if_the_server_still_has_it(server, store, admin):
    store.replace("g", {"a": b"1"}, NOW + 60)
    admin.persist("redshift-secrets:{g}")
    assert fleet_store(server.url, clock=lambda: NOW + 59.9).read({"g": ["a"]})["g"] == {"a": b"1"}
    assert fleet_store(server.url, clock=lambda: NOW + 60).read({"g": ["a"]})["g"] == {}


@pytest.mark.parametrize("writers_clock", [1000.0, NOW, 4e9], ids=["behind", "right", "ahead"])
def test_the_server_counts_down_the_time_left_by_the_clock_of_the_writer(server, admin, writers_clock):
    store = fleet_store(server.url, clock=lambda: writers_clock)
    store.replace("g", {"a": b"1"}, writers_clock + 600)
    assert 0 < admin.pttl("redshift-secrets:{g}") <= 600_000
    store.replace("g", {"a": b"1"}, writers_clock + 0.02)
    until(lambda: not admin.exists("redshift-secrets:{g}"))
    assert store.read({"g": ["a"]})["g"] == {}  # although its own clock stands still


def test_a_group_that_has_already_expired_is_removed(store, admin):
    store.replace("g", {"a": b"1"}, LATER)
    store.replace("g", {"a": b"2"}, NOW)
    assert admin.keys() == []


# --- the mark of the last flush


def test_every_process_finds_another_mark_after_each_flush(server, store):
    other = fleet_store(server.url)
    assert other.flush_mark() is None
    store.mark_flushed()
    first = other.flush_mark()
    assert first
    assert other.flush_mark() == store.flush_mark() == first
    other.mark_flushed()
    assert store.flush_mark() not in (None, first)


def test_the_mark_outlives_a_flush_and_is_no_group(store, admin):
    store.mark_flushed()
    mark = store.flush_mark()
    store.clear()
    assert store.flush_mark() == mark
    assert store.describe().groups == 0
    assert admin.ttl("redshift-secrets:flushed") > 29 * 86400, "longer than a process remembers anything"


@pytest.mark.parametrize("prefix", ["another:", "redshift-secret?:"])
def test_the_mark_belongs_to_its_prefix(server, store, prefix):
    store.mark_flushed()
    assert fleet_store(server.url, prefix=prefix).flush_mark() is None


def test_a_mark_of_another_type_reads_as_none_and_is_overwritten(store, admin, caplog):
    admin.hset("redshift-secrets:flushed", "a", "1")
    assert store.flush_mark() is None
    store.mark_flushed()
    assert store.flush_mark()
    assert caplog.records == []


@pytest.mark.attempt("forge, change or move what is in a store")
def test_a_mark_that_something_else_wrote_is_none(server, store, admin):
    """Whoever can write to Redis would have all hosts forget that they have seen newer entries than those that are put back."""
    for forged in (b"\xff", b"a", Seal([Fernet.generate_key().decode()]).seal("flushed", "mark", 8 * b"\x41")):
        admin.set("redshift-secrets:flushed", forged)
        assert store.flush_mark() is None
    store.replace("flushed", {"mark": b"12345678"}, LATER)
    admin.set("redshift-secrets:flushed", admin.hget("redshift-secrets:{flushed}", "mark"))
    assert store.flush_mark() is None
    store.mark_flushed()
    assert fleet_store(server.url).flush_mark() == store.flush_mark() is not None


@pytest.mark.attempt("put an older entry back into Redis")
def test_an_older_mark_that_is_put_back_or_one_that_is_removed_is_no_flush(server, store, admin):
    reader = fleet_store(server.url)
    store.mark_flushed()
    older = admin.get("redshift-secrets:flushed")
    store.mark_flushed()
    newest = reader.flush_mark()
    admin.set("redshift-secrets:flushed", older)
    assert reader.flush_mark() == newest > fleet_store(server.url).flush_mark()
    admin.delete("redshift-secrets:flushed")
    assert reader.flush_mark() == newest


def test_a_flush_from_a_host_whose_clock_is_behind_is_noticed(server, store):
    ahead = fleet_store(server.url, clock=lambda: NOW + 120)
    ahead.mark_flushed()
    before = store.flush_mark()
    store.mark_flushed()
    assert ahead.flush_mark() == store.flush_mark() > before


def test_a_mark_under_the_second_key_is_still_read(server, store):
    store.mark_flushed()
    assert fleet_store(server.url, Fernet.generate_key().decode(), KEY).flush_mark() == store.flush_mark()


# --- for people


def test_describe_counts_the_groups_of_this_prefix(server, store, admin):
    admin.set("redshift-secrets:other", "1")
    fleet_store(server.url, prefix="another:").replace("g", {"a": b"1"}, LATER)
    for group in ("g1", "g2"):
        store.replace(group, {"a": b"1"}, LATER)
    store.try_lock("g1")
    info = store.describe()
    assert (info.groups, info.trouble) == (2, None)
    assert (info.url, info.key_fingerprint) == (server.url, Seal([KEY]).fingerprint)
