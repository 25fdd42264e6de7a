"""Test and Flush: what they do, what they show and when, and that no secret is in it."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from types import SimpleNamespace

import pytest

from redshift_secrets.errors import CannotServeError
from redshift_secrets.operations.connect import Attempt, Step
from redshift_secrets.server_side import ServerSideBackend
from redshift_secrets.web import site as site_module
from tests.support.fakes import cluster
from tests.support.helpers import BOUND, all_refreshes_done
from tests.unit.web.conftest import SAME_ORIGIN

CLAIM = {"conn_id": "analytics", "warehouse": cluster().arn}
PLANTED = "planted-0451-secret"


@pytest.fixture
def connecting(monkeypatch):
    """What the test of a connection does is `connecting.does`, called with its arguments."""
    fake = SimpleNamespace(does=lambda *_: Attempt("dwh", "etl"), asked=[])

    def connect(broker, conn_id, task, on_step, audit):
        fake.asked.append((conn_id, task.dag_id, task.team))
        return fake.does(on_step)

    monkeypatch.setattr(site_module, "connect", connect)
    return fake


def lines(answer):
    assert answer.status_code == 200
    assert answer.text.endswith("\n")
    return answer.text.splitlines()


def test_each_step_is_a_line_with_its_time(make_page, connecting):
    def does(on_step):
        on_step(Step("TCP", 0.0123))
        on_step(Step("mint", 0.1, "user <etl>"))
        return Attempt("dwh", "etl")

    connecting.does = does
    answer = make_page(cluster(tags={"airflow:conn-id": "analytics", "airflow:team": "Bi"})).post("/test", **CLAIM)
    tcp, mint, outcome, where = lines(answer)
    assert tcp == '<li>TCP <span class="time">12.3 ms</span></li>'
    assert "user &lt;etl&gt;" in mint
    assert "Connected to database dwh as etl" in outcome
    assert "Workers resolve this connection themselves" in where
    assert connecting.asked == [("analytics", None, "bi")]
    assert answer.headers["Content-Encoding"] == "identity"


def test_a_step_is_sent_as_soon_as_it_is_done(make_page, connecting):
    page, seen = make_page(cluster()), threading.Event()

    def does(on_step):
        on_step(Step("TCP", 0.01))
        assert seen.wait(BOUND)
        return Attempt(failure="OSError: gone")

    connecting.does = does
    body = f"conn_id=analytics&warehouse={CLAIM['warehouse']}".encode()
    headers = [(name.lower().encode(), value.encode()) for name, value in SAME_ORIGIN.items()]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/test",
        "query_string": b"",
        "headers": headers,
    }
    parts: list[bytes] = []
    asked = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive():
        return next(asked, None) or await asyncio.Event().wait()

    async def send(message):
        parts.append(message.get("body", b""))
        if b"TCP" in parts[-1]:
            seen.set()

    asyncio.run(asyncio.wait_for(page.app(scope, receive, send), BOUND))
    assert b"Failed: OSError: gone" in b"".join(parts)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            CannotServeError("connection 'analytics' cannot be served: it is paused. Resume it"),
            "Failed: connection &#39;analytics",
        ),
        (ValueError(PLANTED), "unexpected ValueError"),
    ],
)
def test_a_failure_is_said_in_full_unless_nobody_knows_what_is_in_it(make_page, connecting, error, said):
    def does(on_step):
        raise error

    connecting.does = does
    answer = make_page(cluster()).post("/test", **CLAIM)
    assert said in answer.text
    assert PLANTED not in answer.text


def test_a_connection_that_has_gone_meanwhile_is_said_as_a_step(make_page, connecting):
    answer = make_page(cluster()).post("/test", conn_id="analytics", warehouse="arn:of-before")
    assert answer.status_code == 403
    assert answer.text.startswith('<li class="bad">Failed: You may not do this')
    assert answer.text.endswith("</li>\n")  # the browser shows whole lines
    assert not connecting.asked


def test_one_user_for_each_dag_needs_the_dag(make_page, connecting):
    page = make_page(cluster(tags={"airflow:conn-id": "analytics"}), db_user="{dag_id}")
    assert 'name="dag_id" required' in page.get("/connection", **CLAIM, open="1").text
    page.post("/test", **CLAIM, dag_id="sales")
    assert connecting.asked == [("analytics", "sales", None)]
    assert "one for each DAG" in page.get("/table").text
    assert "there is no list of them" in page.post("/flush", conn_id="analytics").text


def test_it_says_where_workers_do_not_resolve(make_page, connecting):
    page = make_page(cluster())
    page.site.__dict__["_backends"] = [*page.site._backends, ServerSideBackend()]
    assert "which resolves connections for the workers" in page.post("/test", **CLAIM).text


def test_a_flushed_credential_is_gone(make_page):
    page = make_page(cluster())
    for form, said in (
        ({"conn_id": "analytics"}, "host: cleared the entries of &#39;analytics&#39;"),
        ({}, "host: cleared all entries"),
    ):
        page.broker.connection("analytics")
        all_refreshes_done()
        assert "none yet" not in page.get("/table").text
        assert said in page.post("/flush", **form).text
        assert "none yet" in page.get("/table").text


def test_an_empty_conn_id_does_not_mean_all(make_page):
    page = make_page(cluster())
    page.broker.connection("analytics")
    all_refreshes_done()
    assert page.post("/flush", conn_id="").status_code == 403
    assert "none yet" not in page.get("/table").text


def test_this_process_forgets_too_where_nothing_is_shared(make_page):
    page = make_page(cluster(), cache={"host": False})
    page.broker.connection("analytics")
    assert "in the memory of this API server" in page.get("/table").text
    assert "nothing is shared" in page.post("/flush").text
    assert "none yet" in page.get("/table").text


@pytest.mark.attempt("find a password in what the page answers")
def test_no_secret_is_in_an_answer_or_a_log(make_page, connecting, caplog):
    caplog.set_level(logging.DEBUG)
    tags = {"airflow:conn-id": "analytics ip", "airflow:auth/ip": "connector"}
    page = make_page(cluster(tags=tags), extra={"app_token": PLANTED, "url": f"http://me:{PLANTED}@proxy"})
    fields = page.broker.connection("analytics")
    all_refreshes_done()
    connecting.does = lambda on_step: Attempt(failure="OSError: ***")
    answers = [
        page.get("/"),
        page.get("/table"),
        page.get("/connection", **CLAIM, open="1"),
        page.post("/refresh"),
        page.post("/test", **CLAIM),
        page.post("/flush", conn_id="analytics"),
        page.get("/nothing"),
    ]
    assert fields.password == "password-1"
    texts = [each.text + str(each.headers) for each in answers] + [caplog.text]
    assert not [text for text in texts if PLANTED in text or "password-1" in text]
    assert "extra.app_token" in answers[2].text
    assert "***" in answers[2].text


def test_a_test_lists_and_mints_for_itself_with_the_client_that_lookups_have(make_page):
    page = make_page(cluster(host="127.0.0.1", port=1))
    page.broker.connection("analytics")
    all_refreshes_done()
    before = dict(page.aws.calls)
    assert "Failed: 127.0.0.1:1" in page.post("/test", **CLAIM).text
    assert page.aws.calls["list"] == 2 * before["list"]
    assert page.aws.calls["mint"] == 2 * before["mint"]


def test_the_audit_says_which_user_has_tested_and_flushed(make_page, tmp_path):
    file = tmp_path / "audit.log"
    page = make_page(cluster(host="127.0.0.1", port=1), audit=str(file))
    page.sign_in("OP")
    page.post("/test", **CLAIM)
    page.post("/flush", conn_id="analytics")
    page.post("/flush")
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert [each["event"] for each in events] == ["minted", "served", "tested", "flushed", "flushed"]
    assert {each["requested_by"] for each in events} == {"OP"}
    tested, flushed = events[2], events[3]
    assert (tested["conn_id"], tested["warehouse"]) == (CLAIM["conn_id"], CLAIM["warehouse"])
    assert "127.0.0.1:1 refuses" in tested["message"]
    assert flushed["conn_id"] == "analytics"
    assert "host" in flushed["message"]
    assert "conn_id" not in events[4]
    assert "password-1" not in file.read_text()


def test_the_audit_says_what_was_refused(make_page, tmp_path):
    file = tmp_path / "audit.log"
    page = make_page(cluster(status="paused"), audit=str(file), cache={"host": False})
    page.post("/test", **CLAIM)
    page.post("/flush")
    tested, flushed = (json.loads(line) for line in file.read_text().splitlines())
    assert "is paused" in tested["message"]
    assert tested["warehouse"] == CLAIM["warehouse"]
    assert "nothing is shared" in flushed["message"]
