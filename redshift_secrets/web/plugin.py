"""The plugin through which Airflow finds the page: the entry point `airflow.plugins`.

Every process of Airflow loads its plugins, tasks too, so this module imports nothing that they do not have: FastAPI, the templates
and the rest of the page are loaded by the API server alone, which is the only one to ask for `fastapi_apps`.
https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/plugins.html
"""

from __future__ import annotations

import sys
from functools import cached_property
from typing import Any

import airflow

# Two modules have the class; whichever is loading this plugin has imported its own, and importing the other one takes seconds.
_manager: Any = sys.modules.get("airflow.sdk.plugins_manager") or sys.modules.get("airflow.plugins_manager")
if _manager is None:
    from airflow import plugins_manager as _manager

_HAS_EXTERNAL_VIEWS = tuple(map(int, airflow.__version__.split(".")[:2])) >= (3, 1)
"""Without them nothing would lead to the page."""

URL_PREFIX = "/redshift-connections"


class RedshiftConnectionsPlugin(_manager.AirflowPlugin):  # type: ignore[misc]  # which class it is depends on the process
    """ "Redshift connections" in the Admin menu of Airflow 3.1 and newer; older ones load it and it does nothing."""

    name = "redshift_secrets"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:
        """The page."""
        if not _HAS_EXTERNAL_VIEWS:
            return []
        from redshift_secrets.web.routes import create_app

        return [{"app": create_app(), "url_prefix": URL_PREFIX, "name": "Redshift connections"}]

    external_views = [  # noqa: RUF012  # as Airflow declares it
        {
            "name": "Redshift connections",
            # Relative, so that it works under a sub path, too.
            "href": f"{URL_PREFIX.removeprefix('/')}/",
            "destination": "nav",
            "category": "admin",
            "url_route": "redshift-connections",
        }
    ]
