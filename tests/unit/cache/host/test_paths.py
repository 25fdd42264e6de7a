"""The place of the host store: as configured, in memory, on disk, or nowhere. Never one that a session's environment names."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from redshift_secrets.cache.host import paths
from redshift_secrets.cache.host.paths import default_cache_dir, is_memory_backed


@pytest.fixture
def shared_memory(tmp_path, monkeypatch):
    """A function that puts a folder of this kind of file system in the place of `/dev/shm`."""

    def shared_memory(kind: str) -> Path:
        folder = tmp_path / "shm"
        folder.mkdir()
        (tmp_path / "mounts").write_text(f"disk / ext4 rw 0 0\nshm {folder} {kind} rw 0 0\n")
        monkeypatch.setattr(paths, "_SHARED_MEMORY", folder)
        monkeypatch.setattr(paths, "_MOUNTS", tmp_path / "mounts")
        return folder

    return shared_memory


@pytest.fixture
def homes(tmp_path, monkeypatch):
    """The passwd database: the home of each user by name; `""` is the user of this process."""
    homes = {"": str(tmp_path / "home"), "airflow": "/srv/airflow"}

    def entry(name: str) -> SimpleNamespace:
        return SimpleNamespace(pw_dir=homes[name])

    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: entry(""))
    monkeypatch.setattr(pwd, "getpwnam", entry)
    monkeypatch.setenv("HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return homes


class TestConfigured:
    @pytest.mark.parametrize(
        ("configured", "expected"),
        [
            ("/somewhere/else", "/somewhere/else"),
            ("~airflow", "/srv/airflow"),
            ("~airflow/a/b", "/srv/airflow/a/b"),
            ("/a/~/b", "/a/~/b"),
        ],
    )
    def test_an_absolute_path_or_one_in_the_home_of_a_user(self, homes, configured, expected):
        assert default_cache_dir(configured) == Path(expected)

    @pytest.mark.parametrize("configured", ["~", "~/", "~/store"])
    def test_a_tilde_is_the_home_in_the_passwd_database(self, homes, tmp_path, configured):
        assert default_cache_dir(configured) == tmp_path / "home" / configured[2:]


class TestNotConfigured:
    def test_in_shared_memory(self, homes, shared_memory):
        folder = shared_memory("tmpfs")
        assert default_cache_dir(None) == folder / f"redshift-secrets-{os.geteuid()}"

    @pytest.mark.parametrize("why", ["it is on disk", "it is missing"])
    def test_else_in_the_cache_folder_of_the_home(self, homes, shared_memory, tmp_path, why):
        folder = shared_memory("ext4" if why == "it is on disk" else "tmpfs")
        if why == "it is missing":
            folder.rmdir()
        assert default_cache_dir(None) == tmp_path / "home" / ".cache" / "redshift-secrets"
        assert not (tmp_path / "home").exists()


@pytest.mark.attempt("turn the host store off by taking its place")
class TestTaken:
    """Everybody may create a folder in shared memory, and nobody else can remove it there."""

    @pytest.mark.parametrize("taken", ["another user's", "a link", "a file", "open to others"])
    def test_what_cannot_be_trusted_there_is_left_alone_and_the_store_is_on_disk(
        self, homes, shared_memory, tmp_path, monkeypatch, caplog, taken
    ):
        folder = shared_memory("tmpfs") / f"redshift-secrets-{os.geteuid()}"
        if taken == "a link":
            (tmp_path / "mine").mkdir(0o700)
            folder.symlink_to(tmp_path / "mine")
        elif taken == "a file":
            folder.touch()
        else:
            folder.mkdir(0o755 if taken == "open to others" else 0o700)
        if taken == "another user's":
            if os.geteuid() != 0:
                pytest.skip("only root can give a folder away")
            os.chown(folder, 12345, 12345)
        assert default_cache_dir(None) == tmp_path / "home" / ".cache" / "redshift-secrets"
        (record,) = caplog.records
        assert str(folder) in record.getMessage()
        assert "remove it" in record.getMessage()

    def test_a_service_finds_its_own_folder_there_as_before(self, homes, shared_memory, caplog):
        folder = shared_memory("tmpfs") / f"redshift-secrets-{os.geteuid()}"
        folder.mkdir(0o700)
        assert (default_cache_dir(None), caplog.records) == (folder, [])


class TestNowhere:
    @pytest.mark.parametrize("home", [None, "", "relative"])
    @pytest.mark.parametrize("configured", ["~", "~/store", None])
    def test_a_user_without_a_home(self, homes, shared_memory, home, configured):
        shared_memory("ext4")
        if home is None:
            del homes[""]
        else:
            homes[""] = home
        with pytest.raises(FileNotFoundError, match=rf"no home of user {os.geteuid()}; set cache\.path to an absolute"):
            default_cache_dir(configured)

    def test_a_user_who_does_not_exist(self, homes):
        with pytest.raises(FileNotFoundError, match=r"no home of user nobody-of-this-name; set cache\.path"):
            default_cache_dir("~nobody-of-this-name/store")


def test_a_service_and_a_login_shell_of_one_user_find_the_same_place(tmp_path):
    script = """
from redshift_secrets.cache.host.paths import default_cache_dir
print(*(default_cache_dir(configured) for configured in (None, "~/store")), sep="\\n")
"""
    shell = {name: str(tmp_path / name) for name in ("HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME")}
    for folder in shell.values():
        os.mkdir(folder, 0o700)
    service = {"PYTHONPATH": str(Path(paths.__file__).parents[3])}
    found = []
    for environment in (service, {**service, **shell}):
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        found.append(done.stdout.splitlines())
    assert found[0] == found[1]
    assert not [place for place in found[0] if str(tmp_path) in place or "~" in place]
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
        shell
    )  # nobody made a folder, one named ~ least of all


def test_memory_is_distinguished_from_disk(tmp_path, monkeypatch):
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/a / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n/dev/b /run/disk ext4 rw 0 0\n"
        "/dev/c /over ext4 rw 0 0\ntmpfs /over tmpfs rw 0 0\ntmpfs /with\\040space tmpfs rw 0 0\n"
    )
    monkeypatch.setattr(paths, "_MOUNTS", mounts)
    folders = ["/x", "/run", "/run/user/1", "/runner", "/run/disk/x", "/over/x", "/with space/x"]
    assert [is_memory_backed(Path(each)) for each in folders] == [False, True, True, False, False, True, True]
    monkeypatch.setattr(paths, "_MOUNTS", tmp_path / "missing")
    assert not is_memory_backed(Path("/run"))
