"""The page with a broker on a fake AWS, and users of Airflow's own SimpleAuthManager."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import pytest

from redshift_secrets.backend import RedshiftSecretsBackend
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.operations import site as operations_site
from redshift_secrets.settings import Settings
from tests.support.airflow_site import airflow_version
from tests.support.fakes import FakeAws
from tests.support.helpers import Site as Simulated

collect_ignore_glob = ["test_[!p]*.py"] if airflow_version() < (3, 1) else []

SAME_ORIGIN = {"X-Redshift-Connections": "1", "Sec-Fetch-Site": "same-origin"}
KWARGS = {"regions": ["eu-west-1"], "db_user": "etl"}


class Page:
    """A browser's view of the page, signed in as one user. `aws` is asked for listings."""

    def __init__(self, app: Any, site: Any, backend: RedshiftSecretsBackend, aws: FakeAws) -> None:
        from fastapi.testclient import TestClient

        self.app = app
        self.site = site
        self.backend = backend
        self.aws = aws
        self.client = TestClient(app)

    @property
    def broker(self) -> Broker:
        """What lookups in this process use."""
        return self.backend.current_broker()

    def sign_in(self, role: str | None, *teams: str) -> None:
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
        from airflow.api_fastapi.core_api.security import get_user

        known = {"teams": list(teams)} if teams else {}
        user = SimpleAuthManagerUser(username=" ".join([str(role), *teams]), role=role, **known)

        async def signed_in() -> Any:  # as Airflow's own, which takes no thread
            return user

        self.app.dependency_overrides[get_user] = signed_in

    def get(self, path: str, **parameters: str) -> Any:
        return self.client.get(path, params=parameters)

    def post(self, path: str, headers: dict[str, str] = SAME_ORIGIN, **form: str) -> Any:
        return self.client.post(path, data=form, headers=headers)


@pytest.fixture
def make_page(clock: Callable[[], float], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Page]]:
    """Return a page for these warehouses, for an administrator."""
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    from redshift_secrets.web.routes import create_app
    from redshift_secrets.web.site import Site

    # A flush has tiers and brokers of its own.
    for create in ("create_tiers", "create_broker"):
        monkeypatch.setattr(operations_site, create, partial(getattr(operations_site, create), clock=clock))

    def make(*warehouses: Any, backends: list[Any] | None = None, **settings: Any) -> Page:
        kwargs = {**KWARGS, **settings}
        backend = RedshiftSecretsBackend(**kwargs)
        aws, tiers = FakeAws(clock, warehouses), operations_site.site_tiers(Settings.from_kwargs(kwargs))
        brokers: list[Broker] = []

        def current_broker() -> Broker:
            if not brokers:
                brokers.append(Simulated(clock, aws=aws, tiers=tiers, monotonic=clock, **kwargs).broker)
            return brokers[0]

        monkeypatch.setattr(backend, "current_broker", current_broker)
        monkeypatch.setattr(backend, "forget", brokers.clear)
        site = Site(lambda: [backend] if backends is None else backends, clock)
        page = Page(create_app(site, clock), site, backend, aws)
        page.sign_in("ADMIN")
        return page

    with mock.patch("redshift_secrets.airflow.web.get_auth_manager", return_value=SimpleAuthManager()):
        yield make


def claims(answer: Any) -> list[str]:
    """Return the conn_ids in a table, in order."""
    assert answer.status_code == 200, answer.text
    return re.findall(r'class="conn"[^>]*>([^<]*)<', answer.text)
