"""Who may see and do what: by Airflow's login and its auth manager, row by row."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from redshift_secrets.airflow import web
from tests.support.airflow_site import airflow_version
from tests.support.fakes import cluster
from tests.unit.web.conftest import SAME_ORIGIN, claims

HEADER = "X-Redshift-Connections"
knows_teams = pytest.mark.skipif(airflow_version() < (3, 2), reason="teams came with Airflow 3.2")

LEDGER = {"airflow:conn-id": "ledger", "airflow:team": "finance"}
CLAIM = {"conn_id": "ledger", "warehouse": cluster("fin").arn}


def routes(app):
    """Every route of the page, as a method and a path that exists."""
    return [
        (method, re.sub(r"\{name\}", "page.css", route.path)) for route in app.routes for method in route.methods or ()
    ]


@pytest.fixture
def page(make_page):
    return make_page(cluster("prod"), cluster("fin", LEDGER))


@pytest.mark.attempt("look at the page in Airflow, or test a connection there, without the right to it")
def test_each_route_needs_a_user(page):
    page.app.dependency_overrides.clear()
    answers = {
        (method, path): page.client.request(method, path, headers=SAME_ORIGIN) for method, path in routes(page.app)
    }
    assert {("GET", "/"), ("GET", "/static/page.css"), ("POST", "/test")} <= answers.keys()
    assert {each.status_code for each in answers.values()} == {401}
    assert not any("analytics" in each.text for each in answers.values())


@pytest.mark.attempt("look at the page in Airflow, or test a connection there, without the right to it")
@pytest.mark.parametrize("role", ["VIEWER", "USER", None])
def test_without_the_right_to_read_connections_nothing_is_shown(page, role):
    page.sign_in(role)
    for method, path in routes(page.app):
        answer = page.client.request(method, path, params=CLAIM, headers=SAME_ORIGIN)
        expected = {"/static/page.css": 200, "/connection": 404}.get(path, 403)
        assert (path, answer.status_code) == (path, expected)
        assert "analytics" not in answer.text
        assert "123456789012" not in answer.text
    assert "You may not see connections" in page.get("/").text


@pytest.mark.attempt("look at the page in Airflow, or test a connection there, without the right to it")
@knows_teams
def test_each_row_is_asked_for_with_the_team_of_its_tag(page, monkeypatch):
    page.sign_in("OP", "marketing")
    assert claims(page.get("/table")) == ["analytics"]
    assert "not there any more" in page.get("/connection", **CLAIM).text
    assert page.post("/test", **CLAIM).status_code == 403
    assert page.post("/flush", conn_id="ledger").status_code == 403
    everything = page.post("/flush")  # it would also be that of others
    assert (everything.status_code, "the connections of every team" in everything.text) == (403, True)
    page.sign_in("OP", "finance")
    assert claims(page.get("/table")) == ["analytics", "ledger"]
    assert page.post("/flush", conn_id="ledger").status_code == 200


@pytest.mark.attempt("look at the page in Airflow, or test a connection there, without the right to it")
@knows_teams
def test_a_conflict_with_another_teams_claim_is_none_for_others(make_page):
    theirs = cluster("fin", {**LEDGER, "airflow:conn-id": "analytics"})
    page = make_page(cluster("prod"), theirs)
    analytics = {"conn_id": "analytics", "warehouse": cluster("prod").arn, "open": "1"}
    page.sign_in("OP", "marketing")
    for answer in (page.get("/table"), page.get("/connection", **analytics)):
        assert "analytics" in answer.text
        assert "cluster fin" not in answer.text
        assert "claimed by" not in answer.text
    page.sign_in("OP", "finance")
    for answer in (page.get("/table"), page.get("/connection", **analytics)):
        assert "also claimed by cluster fin" in answer.text


@pytest.mark.attempt("look at the page in Airflow, or test a connection there, without the right to it")
@knows_teams
def test_no_answer_tells_a_conn_id_of_another_team_from_none(make_page):
    both = {"airflow:conn-id": "shared", "airflow:team": "marketing"}
    page = make_page(cluster("fin", {**LEDGER, "airflow:conn-id": "ledger shared"}), cluster("ads", both))
    page.sign_in("OP", "marketing")
    for path in ("/test", "/flush"):
        of_another_team, of_none = (page.post(path, **{**CLAIM, "conn_id": each}) for each in ("ledger", "nothing"))
        assert (of_another_team.status_code, of_another_team.text) == (of_none.status_code, of_none.text)
    assert page.post("/flush", conn_id="shared").status_code == 200
    assert claims(page.get("/table")) == ["shared"]


@knows_teams
def test_the_letter_case_of_a_team_does_not_count(page, monkeypatch):
    page.sign_in("OP", "Finance")
    assert claims(page.get("/table")) == ["analytics"]
    monkeypatch.setattr(web, "_team_names", lambda: {"finance": "Finance"})
    page.sign_in("OP", "Finance", "again")
    assert claims(page.get("/table")) == ["analytics", "ledger"]


@knows_teams
def test_notes_about_other_teams_are_for_those_who_see_everything(make_page):
    page = make_page(cluster("fin", {**LEDGER, "airflow:nonsense/other": "1"}))
    note = "airflow:nonsense/other"
    assert note in page.get("/table").text
    page.sign_in("OP", "marketing")
    assert note not in page.get("/table").text


@pytest.mark.attempt("look at the page in Airflow, or test a connection there, without the right to it")
@knows_teams
def test_of_another_team_on_the_same_warehouse_nothing_is_said(make_page):
    tags = {
        "airflow:conn-id": "analytics ledger",
        "airflow:team/ledger": "finance",
        "airflow:db-usr/ledger": "x",
        "airflow:db-user/ledgr": "x",
        "airflow:nonsense": "x",
    }
    page = make_page(cluster("prod", tags))
    analytics = {"conn_id": "analytics", "warehouse": cluster("prod").arn, "open": "1"}
    page.sign_in("OP", "marketing")
    for answer in (page.get("/table"), page.get("/connection", **analytics)):
        assert "airflow:nonsense" in answer.text
        assert "ledg" not in answer.text
    assert claims(page.get("/table", q="ledger")) == []
    page.sign_in("OP", "finance")
    for answer in (page.get("/table"), page.get("/connection", **analytics)):
        assert "airflow:db-usr/ledger" in answer.text
        assert "did you mean &#39;ledger&#39;?" in answer.text
    opened = page.get("/connection", **analytics).text
    assert "These tags in Terraform" in opened
    assert "airflow:team/ledger" in opened


def test_who_may_only_read_neither_tests_nor_flushes(page, monkeypatch):
    reader = SimpleNamespace(is_authorized_connection=lambda method, user, details=None: method == "GET")
    monkeypatch.setattr(web, "get_auth_manager", lambda: reader)
    assert claims(page.get("/table")) == ["analytics", "ledger"]
    assert "Flush" not in page.get("/").text
    opened = page.get("/connection", **CLAIM, open="1").text
    assert "Where each field comes from" in opened
    assert "hx-post" not in opened
    assert page.post("/test", **CLAIM).status_code == 403
    assert page.post("/flush", conn_id="ledger").status_code == 403
    assert page.post("/refresh").status_code == 200


@pytest.mark.attempt("have the browser of somebody who is signed in test or flush from another site")
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin"},
        {**SAME_ORIGIN, "Sec-Fetch-Site": "cross-site"},
        {**SAME_ORIGIN, "Sec-Fetch-Site": "same-site"},  # another port of this host
        # Without TLS a browser says only this.
        {HEADER: "1", "Origin": "http://elsewhere.example"},
        {HEADER: "1", "Origin": "http://testserver:8080"},
        {HEADER: "1", "Origin": "http://testserver.elsewhere.example"},
        {HEADER: "1", "Origin": "null"},
    ],
)
@pytest.mark.parametrize("path", ["/refresh", "/flush", "/test"])
def test_a_post_has_to_come_from_the_page(page, path, headers):
    assert page.post(path, headers, **CLAIM).status_code == 403
    assert not page.aws.calls


def test_the_page_itself_may_post_also_behind_a_proxy(page, monkeypatch):
    assert page.post("/refresh", {HEADER: "1"}).status_code == 200
    assert page.post("/refresh", {HEADER: "1", "Origin": "http://TestServer"}).status_code == 200
    proxied = {HEADER: "1", "Origin": "http://airflow.corp.example"}
    assert page.post("/refresh", proxied).status_code == 403
    assert page.post("/refresh", {**proxied, "Sec-Fetch-Site": "same-origin"}).status_code == 200
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://Airflow.corp.example/team/")
    assert page.post("/refresh", proxied).status_code == 200


def test_a_file_that_a_browser_has_is_not_sent_again(page):
    first = page.get("/static/page.css")
    headers = {"If-None-Match": first.headers["ETag"]}
    again = page.client.get("/static/page.css", headers=headers)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert page.client.get("/static/page.js", headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/refresh", "/flush", "/test"])
def test_a_form_is_not_read_beyond_a_limit(page, path):
    assert page.post(path, **CLAIM, other="x" * 70_000).status_code == 413
    assert not page.aws.calls


def test_each_answer_has_a_strict_policy(page):
    for path in ("/", "/table", "/static/page.css"):
        headers = page.get(path).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'self'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
    shell = page.get("/").text
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=|//", shell.replace("<!doctype", ""))
