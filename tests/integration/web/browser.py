"""The Chromium of this machine, as people who look at the page."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import FrameLocator, Page, expect, sync_playwright

from tests.support.environments import chromium

PATIENCE_SECONDS = 120
ROUTE = "plugin/redshift-connections"
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

expect.set_options(timeout=PATIENCE_SECONDS * 1000)


class Browser:
    """A browser in which each user is signed in to the Airflow at `url`, once it is needed. A context manager."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.errors: list[str] = []
        """What browsers have written to the console as an error of the page: a violated policy, a script that failed."""
        self._tokens: dict[str, str] = {}

    def __enter__(self) -> Browser:
        path = chromium()
        assert path is not None, "Chromium is missing: on Debian, apt-get install chromium"
        self._manager = sync_playwright()
        self._chromium = self._manager.start().chromium.launch(executable_path=path, args=_ARGUMENTS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._chromium.close()
        self._manager.__exit__(kind, error, trace)

    @contextlib.contextmanager
    def page(self, user: str, width: int = 1280, height: int = 900) -> Iterator[Page]:
        """A new window of a user who is signed in."""
        if user not in self._tokens:
            self._tokens[user] = self._token(user)
        with self._window(viewport={"width": width, "height": height}) as page:
            page.context.add_cookies([{"name": "_token", "value": self._tokens[user], "url": self.url}])
            yield page

    @contextlib.contextmanager
    def table(self, user: str = "admin", query: str = "", **size: int) -> Iterator[tuple[Page, FrameLocator]]:
        """A new window with the page in it, once it lists connections."""
        with self.page(user, **size) as page:
            page.goto(f"{self.url}/{ROUTE}{query}")
            frame = page.frame_locator("iframe")
            expect(frame.locator("#status")).to_contain_text("listed")
            yield page, frame

    @contextlib.contextmanager
    def signed_in_by_hand(self, user: str) -> Iterator[Page]:
        """A new window of a user who has just filled in Airflow's login page."""
        with self._window() as page:
            page.goto(self.url)
            page.fill("input[name=username]", user)
            page.fill("input[name=password]", user)
            page.keyboard.press("Enter")
            page.wait_for_function("() => !location.pathname.includes('/login')")
            yield page

    @contextlib.contextmanager
    def _window(self, **options: Any) -> Iterator[Page]:
        context = self._chromium.new_context(color_scheme="light", **options)
        context.set_default_timeout(PATIENCE_SECONDS * 1000)
        page = context.new_page()
        page.on("console", lambda message: self._note(message.type, message.text, message.location["url"]))
        page.on("pageerror", lambda error: self._note("error", str(error), error.stack or ""))
        try:
            yield page
        finally:
            context.close()

    def _token(self, user: str) -> str:
        """What the login page would have Airflow put into a cookie, for less: it takes seconds to load."""
        context = self._chromium.new_context()
        answer = context.request.post(f"{self.url}/auth/token", data={"username": user, "password": user})
        assert answer.ok, answer.text()
        token: str = answer.json()["access_token"]
        context.close()
        return token

    def _note(self, kind: str, text: str, url: str) -> None:
        if kind == "error" and "redshift-connections" in url + text:
            self.errors.append(f"{text} ({url})")


def violations(frame: Any) -> list[str]:
    """Return what axe-core finds wrong with what a frame shows: the rule, and the first element."""
    found = Axe().run(frame).response["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found]
