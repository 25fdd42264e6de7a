"""The host store among processes: rows are whole or missing, also when a writer is killed."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from redshift_secrets.cache.host import database
from tests.support.helpers import BOUND
from tests.unit.cache.host.children import Child, children
from tests.unit.cache.host.groups import name_in_database, read


class TestManyProcesses:
    @pytest.fixture(autouse=True)
    def patient(self, monkeypatch):
        monkeypatch.setattr(database, "_WRITE_WAIT_SECONDS", BOUND)

    def test_fifty_children_of_a_busy_parent_read_at_once(self, store, later):
        # The parent's threads are in the middle of sqlite3 calls when it forks.
        store.replace("g", {"n": b"row"}, later)
        done = threading.Event()

        def busy() -> None:
            number = 0
            while not done.is_set():
                number += 1
                read(store, "g", ["n"])
                store.replace("busy", {"n": b"%d" % number}, later)

        threads = [threading.Thread(target=busy, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()

        def read_row() -> bool:
            while read(store, "g", ["n"]) != {"n": b"row"}:
                pass  # the database was locked for too long, which is a miss
            return True

        try:
            with children(50, read_row) as statuses:
                assert statuses() == [0] * 50
        finally:
            done.set()
            for thread in threads:
                thread.join(BOUND)
        assert not any(thread.is_alive() for thread in threads)

    def test_no_write_of_twelve_processes_at_once_is_lost(self, store, later):
        def write(number: int) -> bool:
            for _ in range(5):
                store.replace(f"group {number}", {"n": b"%d" % number}, later)
            return True

        with children(12, write) as statuses:
            assert statuses() == [0] * 12
        for number in range(12):
            assert read(store, f"group {number}", ["n"]) == {"n": b"%d" % number}

    def test_readers_never_see_part_of_a_group(self, store, later):
        names = [str(number) for number in range(40)]

        def replace(generation: int) -> None:
            store.replace("g", dict.fromkeys(names, b"%d" % generation * 200), later)

        def write(_number: int) -> bool:
            for generation in range(60):
                replace(generation)
            return True

        replace(0)
        seen = []
        with children(2, write) as statuses:
            while len(seen) < 300:
                rows = read(store, "g", names)
                assert len(rows) in (0, len(names))  # none where the database was locked for too long
                assert len(set(rows.values())) <= 1
                seen += [set(rows.values())]
            assert statuses() == [0, 0]
        assert any(seen)

    @pytest.mark.parametrize("calls", range(0, 1800, 180))
    def test_a_writer_that_is_killed_leaves_the_old_rows_or_the_new_ones(self, store, later, calls):
        names, replace = [str(number) for number in range(300)], database.replace
        store.replace("g", dict.fromkeys(names, b"before" * 100), later)

        def write(pause: Callable[[], None]) -> None:
            made = 0

            def count(_frame: object, event: str, _argument: object) -> None:
                nonlocal made
                made += event == "c_call"  # most of these calls are into SQLite
                if made > calls:
                    os.kill(os.getpid(), signal.SIGKILL)

            def replace_and_count(*arguments: Any) -> bool:
                sys.setprofile(count)
                return replace(*arguments)

            database.replace = replace_and_count
            pause()
            store.replace("g", dict.fromkeys(names, b"after" * 100), later)

        assert Child(write).end() == -signal.SIGKILL
        rows = read(store, "g", names)
        assert len(rows) == len(names)
        assert set(rows.values()) in ({b"before" * 100}, {b"after" * 100})
        store.replace("g", {"n": b"after"}, later)
        assert read(store, "g", ["n"]) == {"n": b"after"}

    def test_a_writer_that_is_killed_halfway_leaves_the_rows_before_it(self, store, folder, seal, later):
        store.replace("g", dict.fromkeys(map(str, range(500)), b"before"), later)

        class KilledHalfway(dict):
            def items(self):
                yield from list(super().items())[:400]
                assert Path(folder / "store.sqlite-journal").exists()
                os.kill(os.getpid(), signal.SIGKILL)

        def write(pause: Callable[[], None]) -> None:
            pause()
            sealed = KilledHalfway({str(number): b"after" * 500 for number in range(500)})
            groups = [name_in_database(seal, "g")]
            database.replace(folder / "store.sqlite", groups, database.Rows(b"after", sealed), later, later - 1)

        assert Child(write).end() == -signal.SIGKILL
        assert (folder / "store.sqlite-journal").exists()
        assert read(store, "g", ["1", "499"]) == {"1": b"before", "499": b"before"}
