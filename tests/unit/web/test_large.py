"""A site of thousands of connections: what is worked out once, and for how long that holds."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from redshift_secrets.airflow import web
from redshift_secrets.model import Scope
from redshift_secrets.web import site as site_module
from tests.support.fakes import cluster, denied
from tests.support.helpers import BOUND, all_refreshes_done
from tests.unit.web.conftest import claims

MANY = " ".join(f"conn{number:02}" for number in range(25))


@pytest.fixture
def overviews(monkeypatch):
    """What was made of the catalog, each time that it was."""
    made, overview = [], site_module.overview

    def record(*arguments):
        made.append(overview(*arguments))
        return made[-1]

    monkeypatch.setattr(site_module, "overview", record)
    return made


@pytest.fixture
def page(make_page):
    return make_page(*(cluster(f"c{number}", {"airflow:conn-id": MANY}) for number in range(5)))


def test_a_listing_is_gone_through_once(page, overviews, clock):
    for parameters in ({}, {"q": "conn07"}, {"sort": "-warehouse"}, {"page": "2"}):
        page.get("/table", **parameters)
    page.get("/connection", conn_id="nobody", warehouse="has it")
    clock.pass_(60)
    page.get("/table")
    assert len(overviews) == 1
    page.post("/refresh")
    assert len(overviews) == 2


def test_of_viewers_who_come_at_once_one_has_it_gone_through(page, overviews):
    page.aws.hold = threading.Event()
    viewers = [threading.Thread(target=page.site.overview) for _ in range(4)]
    for each in viewers:
        each.start()
    assert page.aws.entered.wait(BOUND)
    page.aws.hold.set()
    for each in viewers:
        each.join(BOUND)
    assert len(overviews) == 1


def test_it_is_gone_through_again_once_lookups_have_listed_again(page, overviews, clock):
    page.get("/table")
    page.aws.warehouses.append(cluster("new", {"airflow:conn-id": "brand-new"}))
    clock.pass_(301)
    page.get("/table")  # starts it
    all_refreshes_done()
    assert claims(page.get("/table", q="brand")) == ["brand-new"]
    assert len(overviews) == 2


def test_a_scope_that_stays_denied_does_not_cost_it_again(page, overviews):
    page.aws.failing[Scope("workgroup", "eu-west-1", None)] = denied()
    for _ in range(3):
        assert "Serverless workgroups in eu-west-1 could not be listed" in page.get("/table").text
    assert len(overviews) == 1


def test_a_right_that_is_taken_away_is_gone_soon(page, monkeypatch, clock):
    asked = []

    def is_authorized_connection(method, user, details=None):
        if details is not None:
            asked.append(details.conn_id)
        return details is None or details.conn_id != hidden

    hidden = None
    monkeypatch.setattr(
        web, "get_auth_manager", lambda: SimpleNamespace(is_authorized_connection=is_authorized_connection)
    )
    for _ in range(3):
        assert "125 connections" in page.get("/table").text
    assert len(asked) == 25  # one question for each conn_id
    hidden = "conn07"
    clock.pass_(5)
    assert "120 connections" in page.get("/table").text
