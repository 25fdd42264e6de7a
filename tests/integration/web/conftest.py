"""One Airflow and one browser for each module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from redshift_secrets.local.stand_in import StandIn
from tests.integration.web.browser import Browser
from tests.integration.web.site import site_with_page
from tests.support.airflow_site import AirflowSite


@pytest.fixture(scope="module")
def airflow(stand_in: StandIn) -> Iterator[AirflowSite]:
    with site_with_page(stand_in) as site:
        yield site


@pytest.fixture(scope="module")
def browser(airflow: AirflowSite) -> Iterator[Browser]:
    with Browser(airflow.url) as running:
        yield running
