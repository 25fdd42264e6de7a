"""The fleet tier in the children of a fork and in many threads, with a real Redis."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import pytest

from tests.support.helpers import in_child
from tests.support.redis_servers import NOW, together

SECRET = b"the-password-that-aws-minted"
LATER = NOW + 600


def sockets() -> set[str]:
    folder = Path("/proc/self/fd")
    found = [os.readlink(folder / name) for name in os.listdir(folder) if (folder / name).is_symlink()]
    return {name for name in found if name.startswith("socket:")}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not list open files there")
def test_no_socket_crosses_a_fork(store):
    before = sockets()
    store.replace("g", {"a": SECRET}, LATER)
    store.try_lock("g").release()
    opened = sockets() - before
    assert len(opened) == 1
    assert in_child(lambda: opened & sockets()) == set()
    assert store.read({"g": ["a"]})["g"] == {"a": SECRET}
    assert sockets() - before == opened, "the parent keeps its connection"


def test_fifty_children_of_a_connected_process_read_at_once(store):
    store.replace("g", {"a": SECRET}, LATER)
    assert together(50, lambda: store.read({"g": ["a"]})["g"] == {"a": SECRET}) == ["True"] * 50
    assert store.read({"g": ["a"]})["g"] == {"a": SECRET}


def test_a_fork_in_the_middle_of_a_call_harms_neither_process(store):
    store.replace("g", {"a": SECRET}, LATER)
    with store._client._lock:
        assert in_child(lambda: store.read({"g": ["a"]})["g"]) == {"a": SECRET}
    assert store.read({"g": ["a"]})["g"] == {"a": SECRET}


def test_threads_share_a_store(store, caplog):
    caplog.set_level(logging.INFO)

    def work(number: int) -> None:
        for turn in range(10):
            store.replace(f"g{number}", {"a": b"%d" % turn}, LATER)
            assert store.read({f"g{number}": ["a"]})[f"g{number}"] == {"a": b"%d" % turn}
            outcomes.append(number)

    outcomes: list[int] = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 80
    assert caplog.records == []
