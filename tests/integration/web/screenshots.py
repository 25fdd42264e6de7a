"""`make screenshots`: the pictures of the page that are in the README.

python -m tests.integration.web.screenshots
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from playwright.sync_api import expect

from redshift_secrets.local import config
from redshift_secrets.local.stand_in import StandIn
from tests.integration.site import ROOT
from tests.integration.web.browser import Browser
from tests.integration.web.site import WAREHOUSES, site_with_page
from tests.support.airflow_site import AirflowSite
from tests.support.host_store import HOST_STORE

DOCS = ROOT / "docs"


def main() -> None:
    """Take both pictures."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ[HOST_STORE] = str(Path(folder) / "redshift-secrets")
        with StandIn(config.parse(WAREHOUSES)) as stand_in, site_with_page(stand_in) as airflow:
            look_up(airflow)
            with Browser(airflow.url) as browser:
                take(browser)


def look_up(airflow: AirflowSite) -> None:
    """Have credentials in the host store."""
    script = "from airflow.sdk import Connection; Connection.get('analytics'); Connection.get('exploration')"
    airflow.run("python", "-c", script)


def take(browser: Browser) -> None:
    """Write the list in light colours, and a connection that was tested in dark ones."""
    with browser.table(height=860) as (page, _):
        page.screenshot(path=DOCS / "page-list.png")
    with browser.table(query="?q=analytics", height=860) as (page, frame):
        page.evaluate("document.documentElement.className = 'dark'")
        frame.get_by_role("button", name="analytics", exact=True).click()
        frame.get_by_role("button", name="Test", exact=True).click()
        expect(frame.locator(".steps li")).to_have_count(8)
        page.mouse.move(0, 0)
        page.screenshot(path=DOCS / "page-connection.png")


if __name__ == "__main__":
    main()
