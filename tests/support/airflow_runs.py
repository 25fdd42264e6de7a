"""The runs of DAGs in an Airflow: to start one, and to read what became of its tasks.

Airflow 3 is asked through its REST API, since its tables change from version to version, and Airflow 2 by them.
https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html
"""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlencode

_SECONDS = 60.0
_PAGE = 100
USER = "admin"
"""The one user of Airflow's own auth manager."""


class TaskKey(NamedTuple):
    """One task of a run; `map_index` is -1 for a task that is not mapped."""

    task_id: str
    map_index: int = -1


class Runs(Protocol):
    """What tests and the demo do with runs."""

    def start(self, dag_id: str, run_id: str, conf: Mapping[str, Any]) -> bool:
        """Start a run; return whether Airflow knew the DAG already."""

    def state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run: `queued`, `running`, `success` or `failed`."""

    def states(self, dag_id: str, run_id: str) -> dict[TaskKey, str]:
        """Return the state of each task of a run."""

    def results(self, dag_id: str, run_id: str) -> dict[TaskKey, Any]:
        """Return what each task of a run returned (its XCom `return_value`), oldest first."""


class RunsThroughApi:
    """Those of Airflow 3, whose API server answers at `url` (`http://host:port`) to `USER` with this password."""

    def __init__(self, url: str, password: str) -> None:
        self._url = url
        self._password = password
        self._token: str | None = None

    def start(self, dag_id: str, run_id: str, conf: Mapping[str, Any]) -> bool:
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
        try:
            self._call(f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns", body)
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                return False
            raise
        except ConnectionError:
            return False  # the server has only just been started
        return True

    def state(self, dag_id: str, run_id: str) -> str:
        try:
            return str(self._call(_path(dag_id, run_id))["state"])
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                return "queued"  # the server answers before it commits the run that it was asked for
            raise

    def states(self, dag_id: str, run_id: str) -> dict[TaskKey, str]:
        found = self._all(f"{_path(dag_id, run_id)}/taskInstances", "task_instances")
        return {_key(each): each["state"] for each in found}

    def results(self, dag_id: str, run_id: str) -> dict[TaskKey, Any]:
        tasks = f"{_path(dag_id, run_id)}/taskInstances"
        found = self._all(f"{tasks}/~/xcomEntries", "xcom_entries", xcom_key="return_value")
        results = {}
        for each in sorted(found, key=lambda entry: str(entry["timestamp"])):
            key = _key(each)
            entry = self._call(f"{tasks}/{quote(key.task_id)}/xcomEntries/return_value?map_index={key.map_index}")
            results[key] = _content(entry["value"])
        return results

    def _all(self, path: str, name: str, **query: str) -> Iterator[dict[str, Any]]:
        count, total = 0, 1
        while count < total:
            page = self._call(f"{path}?{urlencode({**query, 'limit': _PAGE, 'offset': count})}")
            yield from page[name]
            count, total = count + _PAGE, page["total_entries"]

    def _call(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        if self._token is None:
            self._token = self._send("/auth/token", {"username": USER, "password": self._password})["access_token"]
        return self._send(path, body, Authorization=f"Bearer {self._token}")

    def _send(self, path: str, body: Mapping[str, Any] | None, **headers: str) -> Any:
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._url + path, content, {"Content-Type": "application/json", "Accept": "application/json", **headers}
        )
        with _connection_errors(), urllib.request.urlopen(request, timeout=_SECONDS) as response:
            return json.load(response)


class RunsInTables:
    """Those of Airflow 2, by `query(sql, **values)`, and by `airflow(*arguments)`, which runs a command of Airflow."""

    def __init__(self, query: Callable[..., list[Any]], airflow: Callable[..., str]) -> None:
        self._query = query
        self._airflow = airflow

    def start(self, dag_id: str, run_id: str, conf: Mapping[str, Any]) -> bool:
        if not self._query("SELECT 1 FROM serialized_dag WHERE dag_id = :dag_id", dag_id=dag_id):
            return False
        self._airflow("dags", "trigger", dag_id, "--run-id", run_id, "--conf", json.dumps(conf))
        return True

    def state(self, dag_id: str, run_id: str) -> str:
        sql = "SELECT state FROM dag_run WHERE dag_id = :dag_id AND run_id = :run_id"
        return str(self._query(sql, dag_id=dag_id, run_id=run_id)[0][0])

    def states(self, dag_id: str, run_id: str) -> dict[TaskKey, str]:
        sql = "SELECT task_id, map_index, state FROM task_instance WHERE dag_id = :dag_id AND run_id = :run_id"
        return {TaskKey(row[0], row[1]): row[2] for row in self._query(sql, dag_id=dag_id, run_id=run_id)}

    def results(self, dag_id: str, run_id: str) -> dict[TaskKey, Any]:
        sql = (
            "SELECT task_id, map_index, value FROM xcom WHERE dag_id = :dag_id AND run_id = :run_id"
            " AND key = 'return_value' ORDER BY timestamp"
        )
        rows = self._query(sql, dag_id=dag_id, run_id=run_id)
        return {TaskKey(row[0], row[1]): json.loads(bytes(row[2])) for row in rows}


def _path(dag_id: str, run_id: str) -> str:
    return f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"


def _key(entry: Mapping[str, Any]) -> TaskKey:
    return TaskKey(entry["task_id"], entry["map_index"])


def _content(value: Any) -> Any:
    # The API shows what is stored: lists and dictionaries as JSON inside a string, in some versions strings too.
    for _ in range(2):
        if isinstance(value, str) and value[:1] in ("{", "[", '"'):
            value = json.loads(value)
    return value


@contextlib.contextmanager
def _connection_errors() -> Iterator[None]:
    """Raise the error of the connection itself, which urllib wraps."""
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError as error:
        raise (error.reason if isinstance(error.reason, OSError) else error) from None
