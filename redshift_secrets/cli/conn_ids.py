"""The conn_ids that a shell offers for completion: those of the last listing that a command has seen here. They are kept beside Airflow's
configuration, since loading that, for a key to the stores, takes seconds."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from redshift_secrets.cli.site import options

if TYPE_CHECKING:
    from redshift_secrets.lookup.broker import Broker
    from redshift_secrets.operations.inspect import SiteView

_FILE = ".redshift-secrets-conn-ids"


def offered(incomplete: str) -> list[str]:
    """Return the conn_ids that begin so; none where nothing is known. Asks nobody."""
    try:
        with open(_path(), encoding="utf-8") as file:
            return [conn_id for conn_id in file.read().splitlines() if conn_id.startswith(incomplete)]
    except (OSError, ValueError):
        return []


COMPLETED: dict[str, Any] = {"metavar": "CONN_ID", "autocompletion": offered}
"""What an argument or option that takes a conn_id has beside its help."""


def view_all(broker: Broker) -> SiteView:
    """Return every claim of the site, as `view_site`, and keep the conn_ids."""
    from redshift_secrets.operations.inspect import view_site

    found = view_site(broker)
    if options.profile is None and options.region is None and not found.unseen:
        _keep(dict.fromkeys(row.conn_id for row in found.rows))
    return found


def _keep(conn_ids: Iterable[str]) -> None:
    path = _path()
    new = f"{path}.{os.getpid()}"
    try:
        with open(new, "x", encoding="utf-8") as file:
            file.writelines(f"{conn_id}\n" for conn_id in conn_ids)
        os.replace(new, path)
    except OSError:  # a read-only home: nothing is offered
        with suppress(OSError):
            os.unlink(new)


def _path() -> str:
    from redshift_secrets.airflow.configuration import home

    return os.path.join(home(), _FILE)
