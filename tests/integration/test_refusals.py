"""The log of a task whose connection is refused, and what is never used instead.

The metadata database has a row with an old password for each of the connections; its host is a listener of the test.
"""

from __future__ import annotations

import contextlib
import json
import re
import socketserver
import threading
from collections.abc import Iterator
from typing import NamedTuple

import boto3
import pytest

from redshift_secrets.local import config
from redshift_secrets.local.stand_in import StandIn
from tests.integration.site import WORKERS_ASK_THE_SERVER, airflow_site, aws_rights, from_airflow_3, run
from tests.integration.ways_to_fail import SETTINGS, WAREHOUSES, WAYS, add_faults, normalized, without_identity
from tests.support.airflow_parts import backend_environment
from tests.support.airflow_site import AirflowSite
from tests.support.tables import Table

pytestmark = pytest.mark.airflow

TABLE = Table("errors.md", "refusals", ("what is wrong", "what the task's log says"))
STALE = "stale-password"
_SENTENCE = re.compile(r"(?:AirflowSecretsBackendAccessDenied|CannotServeError): (connection 'dw-.*)")


class Log(NamedTuple):
    """The whole log of a task, and the refusal that it failed with; `None` if it failed with something else."""

    text: str
    sentence: str | None


class OldHost(socketserver.TCPServer):
    """The host of the old passwords; closes and counts every connection."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.connections = 0

    def verify_request(self, request: object, client_address: object) -> bool:
        self.connections += 1
        return False


class Site:
    """An Airflow whose metadata database has an old password for each connection, all on one host that counts its use."""

    def __init__(self, airflow: AirflowSite, stand_in: StandIn, old_host: OldHost) -> None:
        self.airflow = airflow
        self.old_host = old_host
        self._stand_in = stand_in
        host, port = old_host.server_address
        row = {"conn_type": "redshift", "host": host, "port": port, "login": "me", "password": STALE}
        file = airflow.home / "connections.json"
        file.write_text(json.dumps({way.conn_id: row for way in WAYS}))
        airflow.airflow("connections", "import", str(file))

    def rights(self, dag_id: str) -> dict[str, str]:
        """Return the environment of a process that resolves for this DAG."""
        rights = {} if dag_id == "nobody" else aws_rights(self._stand_in, "airflow")
        return {**backend_environment(**SETTINGS[dag_id]), **rights}

    def delete_after_listing(self, rights: dict[str, str]) -> None:
        """List everything on this host, then delete a cluster."""
        done = self.airflow.completed("airflow", "connections", "get", "dw-paused", changes=rights)
        assert "cluster paused (account 123456789012, eu-west-1) is paused" in done.stdout + done.stderr
        redshift = boto3.client(
            "redshift",
            region_name="eu-west-1",
            endpoint_url=self._stand_in.aws.url,
            aws_access_key_id=rights["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=rights["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=rights["AWS_SESSION_TOKEN"],
        )
        redshift.delete_cluster(ClusterIdentifier="gone", SkipFinalClusterSnapshot=True)

    def failed_logs(self, dag_id: str) -> dict[str, Log]:
        """Run a DAG, which must fail; return the log of each of its tasks by conn_id."""
        run_id, state = run(self.airflow, dag_id)
        assert state == "failed"
        found = {}
        for task_id, _ in self.airflow.states(dag_id, run_id):
            text = self.airflow.log(dag_id, run_id, task_id)
            sentence = _SENTENCE.search(text)
            found[f"dw-{task_id}"] = Log(text, None if sentence is None else normalized(sentence[1]))
        return found

    def every_log(self, resolver: str) -> dict[str, Log]:
        """Run every DAG, each with a new process that has this backend and the AWS rights."""
        logs: dict[str, Log] = {}
        for dag_id in SETTINGS:
            rights = self.rights(dag_id)
            if dag_id == "refused":
                self.delete_after_listing(rights)
            self.airflow.start(resolver, changes=rights)
            self.airflow.wait_until_ready()
            logs |= self.failed_logs(dag_id)
            self.airflow.stop(resolver)
        return logs


@contextlib.contextmanager
def site() -> Iterator[Site]:
    with StandIn(config.parse(WAREHOUSES)) as stand_in, airflow_site(stand_in) as airflow, OldHost() as old_host:
        thread = threading.Thread(target=old_host.serve_forever, daemon=True)
        thread.start()
        add_faults(stand_in.aws)
        try:
            yield Site(airflow, stand_in, old_host)
        finally:
            old_host.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def by_worker() -> dict[str, Log]:
    """The logs where each worker resolves."""
    with site() as refusing:
        refusing.airflow.start("api-server", "dag-processor")
        logs = refusing.every_log("scheduler")
        assert refusing.old_host.connections == 0
    return logs


@pytest.fixture(scope="module")
def by_server() -> dict[str, Log]:
    """The logs where the API server resolves, and workers ask it through `ServerSideBackend`."""
    with site() as refusing:
        refusing.airflow.start("scheduler", "dag-processor", changes=WORKERS_ASK_THE_SERVER)
        logs = refusing.every_log("api-server")
        assert refusing.old_host.connections == 0
    return logs


def missing(logs: dict[str, Log]) -> dict[str, str]:
    """Return the whole logs of tasks that did not fail with the refusal."""
    return {way.conn_id: logs[way.conn_id].text for way in WAYS if logs[way.conn_id].sentence is None}


@pytest.mark.heavy
def test_a_worker_that_resolves_logs_the_reason(by_worker: dict[str, Log]) -> None:
    assert missing(by_worker) == {}


@pytest.mark.heavy
@from_airflow_3
def test_a_worker_that_asks_the_server_logs_the_reason(by_server: dict[str, Log]) -> None:
    assert missing(by_server) == {}


@from_airflow_3
def test_a_worker_without_this_backend_fails_at_once_and_the_server_logs_the_reason() -> None:
    with site() as refusing:
        refusing.airflow.start("scheduler", "dag-processor")
        refusing.airflow.start("api-server", changes=refusing.rights("refused"))
        refusing.airflow.wait_until_ready()
        log = refusing.failed_logs("one")["dw-paused"]
        assert refusing.old_host.connections == 0
        server_log = (refusing.airflow.home / "api-server.log").read_text()
        assert "cluster paused (account 123456789012, eu-west-1) is paused" in server_log
    if refusing.airflow.version >= (3, 2):
        assert "Access denied for connection 'dw-paused' by Execution API" in log.text
        assert "isn't defined" not in log.text


@pytest.mark.heavy
@from_airflow_3
def test_the_page_has_what_was_logged(
    by_worker: dict[str, Log], by_server: dict[str, Log], request: pytest.FixtureRequest
) -> None:
    for way in WAYS:
        worker, server = str(by_worker[way.conn_id].sentence), str(by_server[way.conn_id].sentence)
        # A task asks its server again meanwhile, and by then the call to AWS that the first lookup waited for has failed too.
        late = way.conn_id == "dw-silent" and "(TimedOut)" in server
        assert late or without_identity(worker) == without_identity(server)
        if request.config.getoption("--write-tables"):
            TABLE.found((way.title, worker))
        else:
            assert TABLE.shown().get(way.title) == (way.title, worker), "docs/errors.md differs: run `make docs`"
    assert request.config.getoption("--write-tables") or len(TABLE.shown()) == len(WAYS)
