"""What a route answers when anything behind it raises: no secret that the error has, and one sentence that a reader can use."""

from __future__ import annotations

import logging

import pytest
from fastapi.testclient import TestClient

from redshift_secrets.errors import CatalogUnavailableError
from redshift_secrets.web import routes, site
from tests.support.fakes import cluster
from tests.unit.web.conftest import SAME_ORIGIN

CLAIM = {"conn_id": "analytics", "warehouse": cluster().arn}
PLANTED = "planted-0451-secret"
BEHIND = [
    (routes, "may"),
    (routes, "allowed"),
    (routes, "build_table"),
    (routes, "bar"),
    (routes, "details"),
    (site, "allowed"),
    (site, "overview"),
    (site, "credentials"),
    (site, "connect"),
    (site, "site_broker"),
    (site, "site_audit"),
    (site.caches, "flush"),
]


def answers(page):
    client = TestClient(page.app, raise_server_exceptions=False)
    gets = [client.get(path, params={**CLAIM, "open": "1"}) for path in ("/", "/table", "/connection")]
    return gets + [client.post(path, data=CLAIM, headers=SAME_ORIGIN) for path in ("/refresh", "/test", "/flush")]


@pytest.mark.attempt("find a password in what the page answers")
@pytest.mark.parametrize(("module", "name"), BEHIND, ids=[name for _, name in BEHIND])
def test_what_an_unexpected_error_says_stays_on_the_server(make_page, monkeypatch, caplog, module, name):
    caplog.set_level(logging.DEBUG)

    def fail(*_arguments, **_more):
        raise ValueError(f"cannot connect with {PLANTED}")

    page = make_page(cluster())
    monkeypatch.setattr(module, name, fail)
    found = answers(page)
    assert any("unexpected ValueError" in each.text for each in found), [each.text for each in found]
    assert not [each for each in found if each.text == "Internal Server Error"]
    assert not [each.text for each in found if PLANTED in each.text + str(each.headers)]
    assert PLANTED not in caplog.text
    for each in found:
        assert each.headers["Content-Security-Policy"]


def test_an_error_of_this_package_is_said_in_full(make_page, monkeypatch):
    def fail(*_arguments, **_more):
        raise CatalogUnavailableError(["AWS did not answer. Let this host reach it."])

    page = make_page(cluster())
    monkeypatch.setattr(site, "overview", fail)
    texts = [each.text for each in answers(page)]
    assert sum("Let this host reach it" in text for text in texts) >= 3  # table, refresh, flush
