"""The page in a real Airflow, in a real browser. What it may show to whom is tested in tests/unit/web, row by row."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from redshift_secrets.local.stand_in import StandIn
from tests.integration.site import MINT
from tests.integration.web.browser import Browser, violations
from tests.integration.web.site import TEAMS, WAREHOUSES
from tests.support.airflow_site import airflow_version

__all__ = ["WAREHOUSES"]  # those of the stand-in

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.skipif(airflow_version() < (3, 1), reason="Airflow 3.1 was the first to show pages of plugins"),
]


@pytest.fixture(autouse=True)
def no_errors_in_the_console(browser: Browser) -> Iterator[None]:
    browser.errors.clear()
    yield
    assert browser.errors == []


def test_from_the_menu_to_a_connection_and_its_address(browser: Browser) -> None:
    with browser.signed_in_by_hand("admin") as page:
        page.get_by_role("button", name="Admin").click()
        page.get_by_role("menuitem", name="Redshift connections").click()
        frame = page.frame_locator("iframe")
        expect(frame.locator("button.conn")).to_have_count(7)
        expect(frame.locator(".causes")).to_contain_text("2 connections: claimed by more than one warehouse")
        expect(frame.locator(".causes")).to_contain_text("did you mean 'duration'")
        frame.get_by_label("Search").press_sequentially("sleepy raw", delay=20)
        expect(frame.locator("button.conn")).to_have_text(["nightly_raw"])
        expect(frame.get_by_label("Search")).to_be_focused()
        frame.get_by_role("button", name="nightly_raw").click()
        expect(frame.locator(".details .notice")).to_contain_text("Resume it, or move the tag to another warehouse")
        address = page.url
        assert "q=sleepy+raw" in address
    with browser.page("admin") as colleague:
        colleague.goto(address)
        expect(colleague.frame_locator("iframe").locator("button.conn")).to_have_text(["nightly_raw"])
        expect(colleague.frame_locator("iframe").get_by_label("Search")).to_have_value("sleepy raw")


def test_a_test_connects_and_a_flush_empties_the_store(browser: Browser, stand_in: StandIn) -> None:
    with browser.table() as (_, frame):
        frame.get_by_role("button", name="analytics", exact=True).click()
        frame.get_by_role("button", name="Test", exact=True).click()
        expect(frame.locator(".steps .good")).to_have_text("Connected to database dwh as etl")
        expect(frame.locator(".steps li")).to_have_count(8)
        expect(frame.locator(".steps")).to_contain_text("Tested from this API server")
        frame.get_by_role("button", name="Flush credential").click()
        expect(frame.locator(".details [role=status]")).to_contain_text("host")
        frame.get_by_role("button", name="Flush all credentials").click()
        expect(frame.locator("#message")).to_contain_text("host: cleared all entries")
        frame.get_by_role("button", name="nightly", exact=True).click()
        frame.locator("tbody", has_text="nightly").get_by_role("button", name="Test", exact=True).click()
        expect(frame.locator(".steps .bad")).to_contain_text("is paused. Resume it")
    assert stand_in.aws.calls.by_operation()[MINT] >= 1


@pytest.fixture
def tag_a_workgroup(stand_in: StandIn) -> Iterator[Callable[[str], None]]:
    """Set the conn_ids that it claims, which are afterwards those it had."""
    inventory = stand_in.aws._inventory
    (arn,) = (each.arn for each in inventory.all() if "workgroup" in each.arn)

    def tag(conn_ids: str) -> None:
        inventory.change_tags(arn, add={"airflow:conn-id": conn_ids})

    yield tag
    tag("exploration")


def test_refresh_shows_what_was_tagged_a_moment_ago(browser: Browser, tag_a_workgroup: Callable[[str], None]) -> None:
    with browser.table(query="?q=tagged_now") as (_, frame):
        expect(frame.locator("#table")).to_contain_text("No connection matches")
        tag_a_workgroup("exploration tagged_now")
        frame.get_by_role("button", name="Refresh").click()
        expect(frame.locator("button.conn")).to_have_text(["tagged_now"])
        frame.get_by_role("link", name="Show all connections").click()
        expect(frame.locator("button.conn")).to_have_count(8)
        expect(frame.get_by_label("Search")).to_have_value("")


def test_light_and_dark_follow_the_switch_at_once(browser: Browser) -> None:
    with browser.table() as (page, _):
        inner = page.frames[1]
        shown = []
        for theme in ("light", "dark"):
            page.evaluate("theme => document.documentElement.className = theme", theme)
            inner.wait_for_function("theme => document.documentElement.className === theme", arg=theme)
            name = "name => getComputedStyle(document.documentElement).getPropertyValue(name)"
            ours = inner.evaluate(name, "--airflow-bg")
            assert ours == page.evaluate(name, "--chakra-colors-bg") != ""
            shown.append(inner.evaluate("() => getComputedStyle(document.body).backgroundColor"))
        assert shown[0] != shown[1]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_violation(browser: Browser, theme: str) -> None:
    with browser.table() as (page, frame):
        page.evaluate("theme => document.documentElement.className = theme", theme)
        frame.get_by_role("button", name="nightly", exact=True).click()
        frame.get_by_role("button", name="Test", exact=True).click()
        expect(frame.locator(".steps .bad")).to_be_visible()
        assert violations(page.frames[1]) == []
    with browser.page("admin") as page:
        page.goto(f"{browser.url}/redshift-connections/?q=nowhere")
        expect(page.locator("#table")).to_contain_text("No connection matches")
        assert violations(page) == []


def test_a_phone(browser: Browser) -> None:
    with browser.table(width=320 + 64, height=700) as (page, frame):
        inner = page.frames[1]
        first = frame.locator("button.conn").first
        expect(first).to_have_text("analytics")
        frame.get_by_role("link", name="Connection", exact=True).click()
        expect(first).not_to_have_text("analytics")
        frame.get_by_role("button", name="exploration").click()
        expect(frame.locator(".details")).to_be_visible()
        assert inner.evaluate("() => innerWidth") <= 320
        assert inner.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0
        assert violations(inner) == []


def test_the_keyboard_alone(browser: Browser) -> None:
    with browser.table() as (page, frame):
        frame.get_by_label("Search").focus()
        page.keyboard.type("analytics")
        expect(frame.locator("button.conn")).to_have_text(["analytics"])
        opener = frame.get_by_role("button", name="analytics", exact=True)
        for _ in range(30):
            if opener.evaluate("element => element === document.activeElement"):
                break
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(opener).to_have_attribute("aria-expanded", "true")
        expect(opener).to_be_focused()
        page.keyboard.press("Tab")
        expect(frame.get_by_role("button", name="Test", exact=True)).to_be_focused()
        page.keyboard.press("Enter")
        expect(frame.locator(".steps .good")).to_be_visible()
        expect(frame.get_by_role("button", name="Test", exact=True)).to_be_focused()
        refresh = frame.get_by_role("button", name="Refresh")
        refresh.focus()
        page.keyboard.press("Enter")
        expect(frame.locator(".details")).to_have_count(0)
        expect(refresh).to_be_focused()
        frame.get_by_role("link", name="Show all connections").focus()
        page.keyboard.press("Enter")
        expect(frame.locator("button.conn")).not_to_have_count(1)
        expect(frame.get_by_role("region", name="Connections")).to_be_focused()  # the link has gone


def test_an_api_server_that_does_not_answer_is_said(browser: Browser) -> None:
    with browser.table() as (page, frame):
        page.route("**/refresh", lambda route: route.abort())
        frame.get_by_role("button", name="Refresh").click()
        expect(frame.locator("#message")).to_have_text("This API server does not answer. Try again.")
    browser.errors.clear()  # the request itself is one


def test_who_may_not_see_connections_is_told_so(browser: Browser) -> None:
    with browser.page("viewer") as page:
        answer = page.goto(f"{browser.url}/redshift-connections/")
        assert answer is not None
        assert answer.status == 403
        expect(page.locator("main")).to_contain_text("You may not see connections")
    browser.errors.clear()  # the status itself is one


@pytest.mark.skipif(not TEAMS, reason="teams came with Airflow 3.2")
def test_a_team_sees_its_own(browser: Browser) -> None:
    with browser.table("op") as (_, frame):
        expect(frame.get_by_role("button", name="analytics", exact=True)).to_have_count(1)
        expect(frame.get_by_role("button", name="ledger")).to_have_count(0)
    with browser.table("fin") as (_, frame):
        expect(frame.get_by_role("button", name="ledger")).to_have_count(1)


@contextlib.contextmanager
def foreign_page(target: str) -> Iterator[str]:
    """A page of another port of this host, which posts to the target in each way that a page has."""
    html = f"""<!doctype html><title>foreign</title><form method=post action="{target}"><button>go</button></form>
<script>
fetch("{target}", {{method: "POST", mode: "no-cors", credentials: "include"}})
  .then(() => fetch("{target}", {{method: "POST", credentials: "include", headers: {{"X-Redshift-Connections": "1"}}}}))
  .catch(() => document.title = "done")
</script>""".encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.attempt("have the browser of somebody who is signed in test or flush from another site")
def test_a_foreign_page_can_post_nothing(browser: Browser) -> None:
    target = f"{browser.url}/redshift-connections/flush"
    with foreign_page(target) as address, browser.page("admin") as page:
        statuses: list[tuple[str, int]] = []
        page.on(
            "response", lambda each: statuses.append((each.request.method, each.status)) if each.url == target else None
        )
        page.goto(address)
        page.wait_for_function("() => document.title === 'done'")
        page.get_by_role("button").click()
        page.wait_for_url(target)
        posts = [status for method, status in statuses if method == "POST"]
        assert len(posts) >= 2
        assert set(posts) <= {401, 403}
    browser.errors.clear()  # those of the foreign page


def test_the_end_of_the_session_leads_to_the_login(browser: Browser) -> None:
    with browser.table() as (page, frame):
        page.context.clear_cookies()
        frame.get_by_label("Search").fill("x")
        page.wait_for_selector("input[name=password]")
    browser.errors.clear()  # the 401
