"""The page behind the other auth manager, which has roles of its own and a login page of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from redshift_secrets.local.stand_in import StandIn
from tests.integration.web.browser import Browser
from tests.integration.web.site import WAREHOUSES, site_with_fab
from tests.support.airflow_site import airflow_version

__all__ = ["WAREHOUSES"]  # those of the stand-in

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.skipif(airflow_version() < (3, 1), reason="Airflow 3.1 was the first to show pages of plugins"),
]


@pytest.fixture(scope="module")
def browser(stand_in: StandIn) -> Iterator[Browser]:
    with site_with_fab(stand_in, "Op", "Viewer", "User") as airflow, Browser(airflow.url) as running:
        yield running


def test_who_has_filled_in_the_login_page_may_look(browser: Browser) -> None:
    with browser.signed_in_by_hand("op") as page:
        answer = page.goto(f"{browser.url}/redshift-connections/")
        assert answer is not None
        assert answer.status == 200


def test_an_operator_sees_tests_and_flushes(browser: Browser) -> None:
    with browser.table("op", "?q=analytics") as (_, frame):
        frame.get_by_role("button", name="analytics", exact=True).click()
        frame.get_by_role("button", name="Test", exact=True).click()
        expect(frame.locator(".steps .good")).to_have_text("Connected to database dwh as etl")
        frame.get_by_role("button", name="Flush all credentials").click()
        expect(frame.locator("#message")).to_contain_text("host: cleared all entries")
    assert browser.errors == []


@pytest.mark.parametrize("user", ["viewer", "user"])
def test_others_see_nothing(browser: Browser, user: str) -> None:
    with browser.page(user) as page:
        answer = page.goto(f"{browser.url}/redshift-connections/")
        assert answer is not None
        assert answer.status == 403
        expect(page.locator("main")).to_contain_text("You may not see connections")
