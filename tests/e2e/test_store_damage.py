"""Damage to the host store while processes use it: the answers are right, nothing fails, and one log line says what happened."""

from __future__ import annotations

import os
import random
import resource
import select
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from redshift_secrets.local.stand_in import StandIn
from tests.e2e.conftest import MINT
from tests.e2e.processes import Process, all_at_once, look_up, wait_for_mint, with_log

WAREHOUSES = {"clusters": [{"identifier": "prod", "tags": {"airflow:conn-id": "analytics", "airflow:db-user": "etl"}}]}
PROCESSES, LOOKUPS = 2, 6
KEYS = [Fernet.generate_key().decode() for _ in range(3)]

Harm = Callable[[Path], None]


def storm(
    stand_in: StandIn, folder: Path, harm: Harm, keys: Callable[[int], str] = lambda _number: KEYS[0]
) -> set[str]:
    """Look up in several processes, each time as a new task, while `harm` is done to the store again and again.

    Return what they logged, after checking that each lookup returned a password that AWS minted.
    """

    def tasks() -> Any:
        found, logged = set(), set()
        for number in range(LOOKUPS):
            cache = {"path": str(folder), "key": keys(number)}
            outcome, messages = with_log(lambda cache=cache: look_up(cache=cache, regions=["eu-west-1"]))
            found.add(outcome)
            logged |= set(messages)
            assert len(messages) == len(set(messages)), messages  # nothing is logged twice
        return found, logged

    processes = [Process(tasks) for _ in range(PROCESSES)]
    for process in processes:
        process.begin()
    waiting = {process.pid for process in processes}
    while waiting:
        harm(folder)
        select.select([], [], [], 0.02)  # the stand-in runs in this process and needs the interpreter
        # Not reaped here: `outcome` does that.
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        waiting -= {pid for pid in waiting if os.waitid(os.P_PID, pid, options) is not None}
    minted = {(token.user, token.password) for token in stand_in.tokens.minted()}
    logged: set[str] = set()
    for process in processes:
        outcome = process.outcome()
        assert isinstance(outcome, tuple), outcome
        assert outcome[0] <= minted, outcome[0] - minted
        logged |= outcome[1]
    return logged


def test_deleting_the_store(stand_in: StandIn, tmp_path: Path) -> None:
    def delete(folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)

    storm(stand_in, tmp_path / "store", delete)  # a missing store is not worth a log line


def test_flipping_bits_in_the_store(stand_in: StandIn, tmp_path: Path) -> None:
    dice = random.Random(3)

    def flip(folder: Path) -> None:
        with suppress(FileNotFoundError), open(folder / "store.sqlite", "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            for _ in range(20):
                file.seek(dice.randrange(max(size, 1)))
                byte = file.read(1)
                if byte:
                    file.seek(-1, os.SEEK_CUR)
                    file.write(bytes([byte[0] ^ 1 << dice.randrange(8)]))

    logged = storm(stand_in, tmp_path / "store", flip)
    assert any("was corrupt and has been deleted" in message for message in logged)


def test_rotating_the_key(stand_in: StandIn, tmp_path: Path) -> None:
    steps = [KEYS[0], f"{KEYS[1]},{KEYS[0]}", KEYS[1], f"{KEYS[2]},{KEYS[1]}", KEYS[2]]

    def nothing(_folder: Path) -> None:
        pass

    assert storm(stand_in, tmp_path / "store", nothing, lambda number: steps[number * len(steps) // LOOKUPS]) == set()
    # A step whose keys open what is stored costs no mint. Two steps drop a key before anything was sealed with the next one.
    assert stand_in.aws.calls.by_operation()[MINT] <= 3


def test_giving_the_folder_to_another_user(stand_in: StandIn, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")

    def give_away(folder: Path) -> None:
        with suppress(FileNotFoundError):
            os.chown(folder, 65534, -1)

    folder = tmp_path / "store"
    look_up(cache={"path": str(folder), "key": KEYS[0]}, regions=["eu-west-1"])
    give_away(folder)
    before = sorted(os.listdir(folder))
    (message,) = {message for message in storm(stand_in, folder, give_away) if message.startswith("host store: ")}
    assert f"{folder} belongs to user 65534" in message
    assert "remove it or set cache.path" in message
    assert sorted(os.listdir(folder)) == before


def no_file_grows() -> None:
    """As on a full disk: empty files can still be made by this process."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def no_folder(folder: Path) -> None:
    folder.touch()


def a_pipe_instead_of_the_database(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.mkfifo(folder / "store.sqlite")  # opening it would block


@pytest.mark.parametrize(("processes", "harm"), [(40, None), (8, no_folder), (8, a_pipe_instead_of_the_database)])
def test_no_process_queues_at_a_store_that_takes_nothing(
    stand_in: StandIn, tmp_path: Path, processes: int, harm: Harm | None
) -> None:
    folder = tmp_path / "store"
    if harm is not None:
        harm(folder)

    def task() -> Any:
        if harm is None:
            no_file_grows()
        return look_up(cache={"path": str(folder), "key": KEYS[0]}, regions=["eu-west-1"])

    first = Process(task)
    others = [Process(task) for _ in range(processes - 1)]
    stand_in.aws.faults.add(operation=MINT, kind="black_hole", times=1)
    first.begin()
    wait_for_mint(stand_in)  # which is never answered while the others need a credential, too
    outcomes = all_at_once(others)
    stand_in.aws.faults.clear()
    outcomes.append(first.outcome())
    assert set(outcomes) <= {(token.user, token.password) for token in stand_in.tokens.minted()}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("this machine has no `mount`")
    if done.returncode != 0:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("room", ["never", "sometimes"])
def test_filling_the_disk(stand_in: StandIn, small_disk: Path, room: str) -> None:
    ballast = small_disk / "ballast"

    def fill(_folder: Path) -> None:
        if room == "sometimes":
            ballast.unlink(missing_ok=True)
        with open(ballast, "ab", buffering=0) as file, suppress(OSError):
            while file.write(b"x" * 4096):
                pass

    fill(small_disk)
    logged = storm(stand_in, small_disk / "store", fill)
    if room != "sometimes":
        assert any("No space left" in message or "disk is full" in message for message in logged)
    ballast.unlink(missing_ok=True)
    cache = {"path": str(small_disk / "store"), "key": KEYS[0]}
    assert look_up(cache=cache, regions=["eu-west-1"])[0] == "IAM:etl"
