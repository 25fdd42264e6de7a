"""No password is in anything that an Airflow with all libraries at DEBUG writes or shows, and one that is planted is found.

The search goes through each place below, for every form in which a password is printed. It proves itself: a secret that was put
into every one of them on purpose has to be found there. LocalExecutor's own copy of the tasks' logs is left out: Airflow masks
nothing in it, and docs/security.md says so.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import psutil
import pytest
from cryptography.fernet import Fernet

from redshift_secrets.local.stand_in import StandIn
from tests.integration.site import RENDERED_FIELDS, airflow_site, aws_rights, rows_of_tables
from tests.support.airflow_parts import backend_environment
from tests.support.airflow_site import airflow_version
from tests.support.redis_servers import RedisServer

DAGS = Path(__file__).parent / "dags_with_planted"
PLANTED = "planted/+p@ss:w%rd= of nobody"
KEY = Fernet.generate_key().decode()
REDIS_PASSWORD = "redis+p@ss/w%rd-of-the-fleet"

PLACES = {
    "logs of tasks",
    "other logs",
    "the metadata database",
    "rendered fields",
    "XCom",
    "the host store",
    "Redis",
    "the audit file",
    "environ of processes",
    "command lines of processes",
}


def written(secret: str) -> Iterator[bytes]:
    """Yield the forms in which a secret is written, base64 in each alignment within a longer text."""
    quoted = {quote(secret), quote(secret, safe=""), quote(secret, safe=" +"), quote_plus(secret)}
    yield from (form.encode() for form in {secret, *quoted, json.dumps(secret)[1:-1], repr(secret)[1:-1]})
    for text in {secret, *quoted}:
        for start in range(3):
            encoded = base64.b64encode(b"x" * start + text.encode() + b"xxx")
            yield encoded[(0, 2, 3)[start] : (start + len(text.encode())) * 8 // 6]


def found_in(content: bytes, secret: str) -> bool:
    return any(form in content for form in written(secret))


class Processes:
    """What every process of this user shows of itself while it is watched."""

    def __init__(self, home: Path) -> None:
        self.environ: set[bytes] = set()
        self.command_lines: set[bytes] = set()
        self._home = home
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            for pid in psutil.pids():
                try:
                    environ = Path(f"/proc/{pid}/environ").read_bytes()
                    command_line = Path(f"/proc/{pid}/cmdline").read_bytes()
                except OSError:
                    continue
                if str(self._home).encode() in environ:
                    self.environ.add(environ)
                    self.command_lines.add(command_line)
                    if PLANTED.encode() in command_line:
                        (self._home / "seen").touch()

    def __enter__(self) -> Processes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer("--requirepass", REDIS_PASSWORD)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def rights(stand_in: StandIn) -> dict[str, str]:
    return aws_rights(stand_in, "worker")


@pytest.fixture(scope="module")
def keys(rights: dict[str, str]) -> list[str]:
    return [KEY, REDIS_PASSWORD, rights["AWS_SECRET_ACCESS_KEY"], rights["AWS_SESSION_TOKEN"]]


@pytest.fixture(scope="module")
def places(
    stand_in: StandIn, redis_server: RedisServer, rights: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, bytes]]:
    """What is in each place after the DAG has run."""
    cache = {"key": KEY, "redis_url": f"unix://:{quote(REDIS_PASSWORD, safe='')}@{redis_server.path}"}
    audit = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    settings = backend_environment(cache=cache, audit=str(audit))
    debug = {"AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG", "PLANTED": PLANTED}
    with airflow_site(stand_in, DAGS, **settings, **debug) as airflow:
        with Processes(airflow.home) as processes:
            airflow.start("dag-processor", "api-server")
            airflow.start("scheduler", changes=rights)
            airflow.wait_until_ready()
            run_id = airflow.trigger("planted")
            airflow.wait_for_run("planted", run_id)
        states = {task.task_id: state for task, state in airflow.states("planted", run_id).items()}
        everything_but = dict.fromkeys(("operator", "uses", "plants", "renders"), "success")
        assert states == {**everything_but, "fails": "failed"}, airflow.last_lines()
        (airflow.host_store / "planted").write_text(PLANTED)
        admin = redis_server.admin(password=REDIS_PASSWORD)
        assert len(admin.keys("redshift-secrets:*")) > 1
        admin.set("planted", PLANTED)
        (airflow.home / "another.log").write_text(PLANTED)
        events = {json.loads(line)["event"] for line in audit.read_text().splitlines()}
        assert events >= {"minted", "served"}
        with audit.open("a") as file:
            file.write(json.dumps({"event": PLANTED}) + "\n")
        tasks = airflow.home / "logs" / "dag_id=planted"
        copy = airflow.home / "scheduler.log"
        yield {
            "logs of tasks": files(tasks),
            "other logs": files(airflow.home, without=(tasks, airflow.host_store, copy)),
            "the metadata database": rows_of_tables(airflow, ""),
            "rendered fields": rows_of_tables(airflow, *RENDERED_FIELDS),
            "XCom": rows_of_tables(airflow, "xcom"),
            "the host store": files(airflow.host_store),
            "Redis": b"\n".join(admin.dump(key) for key in admin.keys("*")),
            "the audit file": audit.read_bytes(),
            "environ of processes": b"\n".join(processes.environ),
            "command lines of processes": b"\n".join(processes.command_lines),
        }


def files(folder: Path, without: tuple[Path, ...] = ()) -> bytes:
    found = [each for each in folder.rglob("*") if each.is_file() and not set(without) & {each, *each.parents}]
    return b"\n".join(each.read_bytes() for each in found)


@pytest.mark.parametrize("place", sorted(PLACES))
def test_what_was_planted_is_found(places: dict[str, bytes], place: str) -> None:
    assert set(places) == PLACES
    assert found_in(places[place], PLANTED)


@pytest.mark.parametrize("library", ["botocore", "connectionpool", "redshift_secrets"])
def test_libraries_wrote_their_debug_messages(places: dict[str, bytes], library: str) -> None:
    if library == "connectionpool" and airflow_version() < (3, 1):
        pytest.skip("Airflow 3.0 keeps no debug message of urllib3")
    assert library.encode() in places["logs of tasks"]


@pytest.mark.attempt("read a password in logs, XCom, rendered fields, the metadata database, stores, environ or ps")
@pytest.mark.parametrize("place", sorted(PLACES))
def test_no_password_is_found(places: dict[str, bytes], stand_in: StandIn, place: str) -> None:
    passwords = [token.password for token in stand_in.tokens.minted()]
    assert passwords
    if place == "rendered fields" and airflow_version() < (3, 1):
        pytest.skip("Airflow 3.0 does not mask what a task renders in its own process")
    assert [password for password in passwords if found_in(places[place], password)] == []


@pytest.mark.parametrize("place", sorted(PLACES - {"environ of processes"}))
def test_no_key_is_found(places: dict[str, bytes], keys: list[str], place: str) -> None:
    """The environment of this Airflow configures them; a site may use files and commands instead."""
    assert [key for key in keys if found_in(places[place], key)] == []
