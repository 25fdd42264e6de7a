"""What befalls the host's store while everybody uses it: right answers, no error, and a line that says what happened."""

from __future__ import annotations

import os
import random
import select
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from redshift_secrets.local import config
from redshift_secrets.local.stand_in import StandIn
from tests.e2e.processes import Process, look_up, with_log

WAREHOUSES = {"clusters": [{"identifier": "prod", "tags": {"airflow:conn-id": "analytics", "airflow:db-user": "etl"}}]}
PROCESSES, LOOKUPS = 2, 6
PATIENTLY: dict[str, Any] = {"regions": ["eu-west-1"], "aws_timeout_seconds": 60}  # a busy machine is no failure
KEYS = [Fernet.generate_key().decode() for _ in range(3)]

Harm = Callable[[Path], None]


@pytest.fixture(scope="module")
def running() -> Iterator[StandIn]:
    with StandIn(config.parse(WAREHOUSES)) as stand_in:
        yield stand_in


@pytest.fixture
def stand_in(running: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)
    running.aws.calls.clear()
    return running


def storm(
    stand_in: StandIn, folder: Path, harm: Harm, keys: Callable[[int], str] = lambda _number: KEYS[0]
) -> set[str]:
    """Let processes look up, each time as a new task would, while harm is done to the store again and again. Return what
    they logged, after having seen that every one of them got a password that AWS minted, every time."""

    def tasks() -> Any:
        found, logged = set(), set()
        for number in range(LOOKUPS):
            cache = {"path": str(folder), "key": keys(number)}
            outcome, messages = with_log(lambda cache=cache: look_up(cache=cache, **PATIENTLY))
            found.add(outcome)
            logged |= set(messages)
            assert len(messages) == len(set(messages)), messages  # nothing is said twice
        return found, logged

    processes = [Process(tasks) for _ in range(PROCESSES)]
    for process in processes:
        process.begin()
    waiting = {process.pid for process in processes}
    while waiting:
        harm(folder)
        select.select([], [], [], 0.02)  # the stand-in lives in this process and must get a turn
        # Not reaped here: that is for `outcome` to do.
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        waiting -= {pid for pid in waiting if os.waitid(os.P_PID, pid, options) is not None}
    minted = {(token.user, token.password) for token in stand_in.tokens.minted()}
    said: set[str] = set()
    for process in processes:
        outcome = process.outcome()
        assert isinstance(outcome, tuple), outcome
        assert outcome[0] <= minted, outcome[0] - minted
        said |= outcome[1]
    return said


def test_deleted_again_and_again(stand_in: StandIn, tmp_path: Path) -> None:
    def delete(folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)

    storm(stand_in, tmp_path / "store", delete)  # a store that is not there is no event


def test_bits_flipped_in_it(stand_in: StandIn, tmp_path: Path) -> None:
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

    said = storm(stand_in, tmp_path / "store", flip)
    assert any("was damaged and has been thrown away" in message for message in said)


def test_the_key_is_replaced(stand_in: StandIn, tmp_path: Path) -> None:
    steps = [KEYS[0], f"{KEYS[1]},{KEYS[0]}", KEYS[1], f"{KEYS[2]},{KEYS[1]}", KEYS[2]]

    def nothing(_folder: Path) -> None:
        pass

    assert storm(stand_in, tmp_path / "store", nothing, lambda number: steps[number * len(steps) // LOOKUPS]) == set()
    # Each step that opens what is there costs no mint; the two that drop a key before anything was sealed with the next do.
    assert stand_in.aws.calls.by_operation()["redshift:GetClusterCredentials"] <= 3


def test_given_to_somebody_else(stand_in: StandIn, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")

    def give_away(folder: Path) -> None:
        with suppress(FileNotFoundError):
            os.chown(folder, 65534, -1)

    folder = tmp_path / "store"
    look_up(cache={"path": str(folder), "key": KEYS[0]}, **PATIENTLY)
    give_away(folder)
    before = sorted(os.listdir(folder))
    (said,) = {message for message in storm(stand_in, folder, give_away) if message.startswith("host store: ")}
    assert f"{folder} belongs to user 65534" in said
    assert "remove it or set cache.path" in said
    assert sorted(os.listdir(folder)) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode != 0:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("room", ["none from the start", "sometimes"])
def test_on_a_disk_that_is_full(stand_in: StandIn, small_disk: Path, room: str) -> None:
    ballast = small_disk / "ballast"

    def fill(_folder: Path) -> None:
        if room == "sometimes":
            ballast.unlink(missing_ok=True)
        with open(ballast, "ab", buffering=0) as file, suppress(OSError):
            while file.write(b"x" * 4096):
                pass

    fill(small_disk)
    said = storm(stand_in, small_disk / "store", fill)
    if room != "sometimes":
        assert any("No space left" in message or "disk is full" in message for message in said)
    ballast.unlink(missing_ok=True)
    cache = {"path": str(small_disk / "store"), "key": KEYS[0]}
    assert look_up(cache=cache, **PATIENTLY)[0] == "IAM:etl"
