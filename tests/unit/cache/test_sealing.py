"""Sealing: each row opens only in its place and with one of the keys; the key file of a host."""

from __future__ import annotations

import base64
import os
import socket
import stat
import traceback

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from redshift_secrets.cache.sealing import KEY_FILE, Seal, host_key
from tests.support.helpers import Crowd, in_child


def _socket(path, _mode):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))
SEAL = Seal([NEW])

texts = st.text(st.characters(), max_size=20)  # lone surrogates too


class TestSeal:
    @given(texts, texts, st.binary(max_size=100))
    def test_it_opens_in_the_place_it_was_sealed_for(self, group, name, payload):
        assert SEAL.open(group, name, SEAL.seal(group, name, payload)) == payload

    @pytest.mark.attempt("forge, change or move what is in a store")
    @given(texts, texts, texts, texts)
    def test_it_does_not_open_in_another_place(self, group, name, other_group, other_name):
        opened = SEAL.open(other_group, other_name, SEAL.seal(group, name, b"row"))
        assert (opened is not None) == ((group, name) == (other_group, other_name))

    def test_group_and_name_do_not_run_together(self):
        assert SEAL.open("a", "bc", SEAL.seal("ab", "c", b"row")) is None

    @pytest.mark.attempt("forge, change or move what is in a store")
    @pytest.mark.parametrize("payload", [b"", b"x" * 15, b"x" * 16, b"x" * 40])
    def test_it_does_not_open_after_any_bit_was_flipped(self, payload):
        sealed = SEAL.seal("g", "n", payload)
        for bit in range(len(sealed) * 8):
            flipped = bytearray(sealed)
            flipped[bit // 8] ^= 1 << bit % 8
            assert SEAL.open("g", "n", bytes(flipped)) is None, bit

    def test_all_rows_of_several_groups_that_open_are_opened(self):
        sealed = {group: {name: SEAL.seal(group, name, b"row") for name in "ab"} for group in "gh"}
        sealed["h"]["a"] = sealed["g"]["a"]
        assert SEAL.open_all({**sealed, "none": {}}) == {
            "g": {"a": b"row", "b": b"row"},
            "h": {"b": b"row"},
            "none": {},
        }

    @given(st.binary(max_size=200))
    def test_other_bytes_do_not_open(self, sealed):
        assert SEAL.open("g", "n", sealed) is None

    @pytest.mark.attempt("read what is in a store without its key")
    def test_neither_payload_nor_place_is_readable(self):
        sealed = SEAL.seal("the group", "the name", b"hunter2hunter2")
        everything = sealed + base64.urlsafe_b64encode(sealed)
        assert not [word for word in (b"the group", b"the name", b"hunter2") if word in everything]


class TestKeys:
    def test_the_first_key_seals_and_all_of_them_open(self):
        before, both, after = Seal([OLD]), Seal([NEW, OLD]), Seal([NEW])
        assert both.open("g", "n", before.seal("g", "n", b"row")) == b"row"
        assert after.open("g", "n", both.seal("g", "n", b"row")) == b"row"
        assert before.open("g", "n", both.seal("g", "n", b"row")) is None
        assert after.open("g", "n", before.seal("g", "n", b"row")) is None

    @pytest.mark.parametrize(
        "bad",
        [
            "",
            "hunter2",
            "gr\u00fcn" * 11,
            base64.urlsafe_b64encode(b"x" * 31).decode(),
            base64.urlsafe_b64encode(b"y" * 33).decode(),
            OLD[:-2],
        ],
        ids=["empty", "short", "not ascii", "31 bytes", "33 bytes", "truncated"],
    )
    def test_a_malformed_key_is_refused_without_repeating_it(self, bad):
        with pytest.raises(ValueError) as caught:  # noqa: PT011  # Fernet's own message
            Seal([NEW, bad])
        assert not bad or bad not in "".join(traceback.format_exception(caught.value))

    def test_no_key_at_all_is_refused(self):
        with pytest.raises(ValueError, match="MultiFernet requires at least one Fernet instance"):
            Seal([])

    def test_the_fingerprint_identifies_the_first_key_without_revealing_it(self):
        seal = Seal([NEW, OLD])
        assert seal.fingerprint == Seal([NEW]).fingerprint != Seal([OLD]).fingerprint
        assert len(seal.fingerprint) == 8
        assert seal.fingerprint in repr(seal)
        assert NEW not in repr(seal)

    def test_the_fingerprint_of_a_key_never_changes(self):
        assert Seal([base64.urlsafe_b64encode(bytes(32)).decode()]).fingerprint == "c44f1da3"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "private"


@pytest.mark.attempt("read or replace the host store of another OS user")
class TestHostKey:
    def test_it_is_created_once_and_only_the_user_can_read_it(self, folder):
        key = host_key(folder)
        assert host_key(folder) == key
        assert stat.S_IMODE(os.stat(folder / KEY_FILE).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        assert os.listdir(folder) == [KEY_FILE]
        Seal([key])

    def test_it_is_private_whatever_the_umask(self, folder):
        def modes():
            os.umask(0)
            host_key(folder)
            return [stat.S_IMODE(os.stat(path).st_mode) for path in (folder, folder / KEY_FILE)]

        assert in_child(modes) == [0o700, 0o600]

    def test_threads_that_start_at_once_use_one_key(self, folder):
        keys = Crowd(16, lambda: host_key(folder)).outcomes()
        assert set(keys) == {in_child(lambda: host_key(folder))}
        assert os.listdir(folder) == [KEY_FILE]

    def test_processes_that_start_at_once_use_one_key(self, folder):
        # Each thread forks a child that creates or reads the key.
        keys = Crowd(6, lambda: in_child(lambda: host_key(folder))).outcomes()
        assert set(keys) == {host_key(folder)}

    @pytest.mark.parametrize("content", [b"", b"hunter2", b"\xff" * 44, b"x" * 40])
    def test_a_file_without_a_key_is_refused_without_repeating_its_content(self, folder, content):
        host_key(folder)
        (folder / KEY_FILE).write_bytes(content)
        with pytest.raises(OSError, match="does not hold a key; remove it") as caught:
            host_key(folder)
        assert not content or content.decode("latin-1") not in str(caught.value)

    def test_a_file_that_others_may_read_is_refused(self, folder):
        host_key(folder)
        (folder / KEY_FILE).chmod(0o640)
        with pytest.raises(OSError, match="others may read"):
            host_key(folder)

    def test_a_file_of_another_user_is_refused(self, folder):
        host_key(folder)
        if os.geteuid() != 0:
            pytest.skip("only root can give a file away")
        os.chown(folder / KEY_FILE, 65534, -1)
        with pytest.raises(OSError, match="belongs to user 65534"):
            host_key(folder)

    def test_a_link_is_refused(self, folder, tmp_path):
        key = host_key(folder)
        (tmp_path / "elsewhere").write_text(key)
        (tmp_path / "elsewhere").chmod(0o600)
        (folder / KEY_FILE).unlink()
        (folder / KEY_FILE).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(OSError, match=r"host\.key is not a file; remove it"):
            host_key(folder)

    @pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, _socket])
    def test_a_folder_a_pipe_or_a_socket_is_refused_without_waiting(self, folder, make):
        folder.mkdir(0o700)
        make(folder / KEY_FILE, 0o600)
        with pytest.raises(OSError, match=r"host\.key is not a file; remove it"):
            host_key(folder)

    def test_a_folder_that_is_open_to_others_is_refused(self, folder):
        folder.mkdir()
        folder.chmod(0o755)
        with pytest.raises(OSError, match="open to others"):
            host_key(folder)
        assert os.listdir(folder) == []
