"""How a command ends: exit codes, and what goes wrong as one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from redshift_secrets.lookup.broker import Broker

T = TypeVar("T")

FAILED, USAGE, UNKNOWN_CONN_ID, PARTIAL = 1, 2, 3, 4
CANNOT_RUN, NO_SUCH_COMMAND = 126, 127
"""As in shells and env(1)."""


def run(work: Callable[[], T]) -> T:
    """Return what `work` returns; an error of this package becomes a message and an exit code."""
    from redshift_secrets.cli.site import NotConfiguredError
    from redshift_secrets.errors import RedshiftSecretsError, SettingsError

    try:
        return work()
    except NotConfiguredError as error:
        fail(str(error), USAGE)
    except SettingsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(USAGE) from None
    except RedshiftSecretsError as error:
        fail(str(error), FAILED)


def fail(message: str, code: int) -> NoReturn:
    """Print the message to standard error and end with the exit code."""
    typer.echo(f"redshift-secrets: {message}", err=True)
    raise typer.Exit(code)


def unknown_conn_id(broker: Broker, conn_id: str) -> NoReturn:
    """End because no tag claims the conn_id, as far as can be seen."""
    from redshift_secrets.operations.inspect import view_site

    unseen = run(lambda: view_site(broker, conn_id)).unseen
    if unseen:
        fail(f"no tag that can be seen claims the conn_id {conn_id!r}, but {'; '.join(unseen)}", PARTIAL)
    fail(f"no tag claims the conn_id {conn_id!r} here; `redshift-secrets list` shows what exists.", UNKNOWN_CONN_ID)
