"""The table: what a row says, searching, pages, problems, and what is shown where there is nothing."""

from __future__ import annotations

import pytest

from redshift_secrets.model import Scope
from tests.support.fakes import cluster, denied, workgroup
from tests.support.helpers import all_refreshes_done
from tests.unit.web.conftest import claims

MANY = " ".join(f"conn{number:03}" for number in range(25))


def test_a_row_says_what_a_connection_is(make_page, clock):
    page = make_page(workgroup("adhoc", {"airflow:conn-id": "reports", "airflow:team": "finance"}))
    text = page.get("/table").text
    for each in (
        "reports",
        "adhoc",
        "workgroup 123456789012 eu-west-1",
        "dev",
        "iam",
        "finance",
        "available",
        "none yet",
    ):
        assert each in text
    assert "1 connection, listed 0 s ago" in text


def test_the_credential_is_a_bar_with_its_tier(make_page, clock):
    page = make_page(cluster())
    assert page.broker.connection("analytics") is not None
    all_refreshes_done()
    page.backend.forget()  # so another process has looked it up
    clock.pass_(900)
    text = page.get("/table").text
    assert "45 min left, refreshed in 15 min, in the host store" in text
    assert '<rect class="used" width="25"' in text
    assert '<rect class="half" x="50"' in text
    assert "password-1" not in text


def test_100_rows_at_a_time_and_the_address_carries_the_view(make_page):
    warehouses = [
        cluster(f"c{number}", {"airflow:conn-id": MANY.replace("conn", f"c{number}n")}) for number in range(5)
    ]
    page = make_page(*warehouses, cluster("other"))
    first = page.get("/table")
    assert len(claims(first)) == 100
    assert first.headers["HX-Replace-Url"] == "./"
    assert "126 connections" in first.text
    second = page.get("/table", page="2", sort="-conn_id")
    assert claims(second)[-1] == "analytics"
    assert len(claims(second)) == 26
    assert second.headers["HX-Replace-Url"] == "./?sort=-conn_id&page=2"
    assert page.get("/table", page="99").headers["HX-Replace-Url"] == "./?page=2"
    found = page.get("/table", q="OTHER dev")
    assert claims(found) == ["analytics"]
    assert "1 of 126 connections" in found.text
    assert "table?q=OTHER+dev" in page.get("/", q="OTHER dev").text


@pytest.mark.parametrize(
    "nonsense", [{"sort": "x"}, {"page": "-1"}, {"page": "\u0663"}, {"page": "9" * 30}, {"kind": "'"}]
)
def test_an_address_that_means_nothing_is_no_error(make_page, nonsense):
    assert page_text(make_page(cluster()), **nonsense)


def page_text(page, /, **parameters):
    answer = page.get("/table", **parameters)
    assert answer.status_code == 200
    return answer.text


def test_filters_offer_what_there_is(make_page):
    page = make_page(cluster(), workgroup("adhoc", {"airflow:conn-id": "reports"}))
    text = page_text(page)
    assert "<option>workgroup</option>" in text
    assert 'id="filter-region"' not in text  # there is one
    assert claims(page.get("/table", kind="workgroup")) == ["reports"]
    assert "<option selected>workgroup</option>" in page_text(page, kind="workgroup")
    assert claims(page.get("/table", kind="cluster", auth="db-user")) == ["analytics"]
    assert "No connection matches" in page_text(page, q="nowhere")


def test_problems_are_on_top_with_one_line_for_each_cause(make_page):
    page = make_page(
        cluster("one", {"airflow:conn-id": "a b"}, status="paused"),
        cluster("two", {"airflow:conn-id": "c x"}),
        cluster("three", {"airflow:conn-id": "x"}),
    )
    text = page_text(page)
    top = text[text.index("<h2>Problems") : text.index("<table")]
    conflict, paused = (line for line in top.splitlines() if "</a>" in line)
    assert "2 connections</a>: claimed by more than one warehouse" in conflict
    assert (
        "2 connections</a>: cluster one (account 123456789012, eu-west-1) does not accept logins now: paused" in paused
    )
    cause = conflict.split("cause=")[1].split('"')[0].split("&")[0]
    assert claims(page.get("/table", cause=cause)) == ["x", "x"]
    assert claims(page.get("/table", problems="1", sort="conn_id")) == ["a", "b", "x", "x"]


def test_an_open_row_has_the_refusal_in_full_and_the_tags_as_code(make_page):
    warehouse = cluster("one", {"airflow:conn-id": "a", "airflow:db-user": "bi", "owner": "me"}, status="paused")
    page = make_page(warehouse)
    address = {"conn_id": "a", "warehouse": warehouse.arn}
    text = page.get("/connection", **address, open="1").text
    assert "is paused. Resume it, or move the tag to another warehouse" in text
    assert "tag airflow:db-user" in text
    assert "SQLExecuteQueryOperator(task_id=&#34;query&#34;, conn_id=&#39;a&#39;" in text
    assert "aws redshift create-tags --resource-name arn:aws:redshift:eu-west-1:123456789012:cluster:one" in text
    assert "&#34;airflow:db-user&#34; = &#34;bi&#34;" in text
    assert "owner" not in text
    assert 'aria-expanded="true"' in text
    assert 'aria-expanded="false"' in page.get("/connection", **address).text


def test_a_conflict_is_refused_with_both_names_and_with_the_remedy(make_page):
    page = make_page(cluster("one"), cluster("two", created_at=1.0))
    text = page.get("/connection", conn_id="analytics", warehouse=cluster("one").arn, open="1").text
    assert "it is claimed by cluster two (account 123456789012, eu-west-1) and cluster one" in text
    assert "Remove the tag from all but one" in text


def test_what_a_tag_says_is_text(make_page):
    page = make_page(cluster("one", {"airflow:conn-id": "a", "airflow:db-user": "<b>&"}))
    assert (
        "<b>" not in page_text(page) + page.get("/connection", conn_id="a", warehouse=cluster("one").arn, open="1").text
    )


def test_no_connection_says_where_was_looked_and_what_to_tag(make_page):
    page = make_page(cluster("bare", {}), warehouses=["clusters"])
    text = page_text(page)
    assert "clusters in eu-west-1" in text
    assert "<code>airflow:conn-id</code>" in text


def test_what_cannot_be_listed_is_said_beside_the_rest(make_page):
    page = make_page(cluster())
    page.aws.failing[Scope("workgroup", "eu-west-1", None)] = denied()
    text = page_text(page)
    assert "Serverless workgroups in eu-west-1 could not be listed" in text
    assert "Allow it." in text
    assert "analytics" in text


def test_nothing_can_be_listed(make_page):
    page = make_page(cluster())
    page.aws.failing = {Scope(kind, "eu-west-1", None): denied() for kind in ("cluster", "workgroup")}
    text = page_text(page)
    assert "no warehouse could be listed" in text
    assert "Nothing is listed" in text
    assert page.post("/flush").status_code == 200


def test_a_refresh_that_fails_says_that_what_is_shown_is_older(make_page, clock):
    page = make_page(cluster())
    assert "could not be asked" not in page.post("/refresh").text
    clock.pass_(60)
    page.aws.failing[Scope("cluster", "eu-west-1", None)] = denied()
    answer = page.post("/refresh")
    assert claims(answer) == ["analytics"]
    assert "AWS could not be asked for everything" in answer.text
    assert "listed 1 min ago" in answer.text


def test_an_api_server_without_this_backend_says_so(make_page):
    assert "does not name redshift-secrets" in page_text(make_page(backends=[]))


def test_refresh_lists_again_and_what_is_typed_does_not(make_page):
    page = make_page(cluster())
    page_text(page)
    page.aws.warehouses.append(cluster("new", {"airflow:conn-id": "brand-new"}))
    assert claims(page.get("/table", q="new")) == []
    assert claims(page.post("/refresh", q="new")) == ["brand-new"]
    assert claims(page.get("/table", q="new")) == ["brand-new"]
    assert page.broker.connection("brand-new") is not None
    assert page.aws.calls["list"] == 4
