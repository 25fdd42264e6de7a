"""How a command ends: exit codes, and what goes wrong as one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, TypeVar

import typer

from redshift_secrets.cli.output import note

if TYPE_CHECKING:
    from redshift_secrets.lookup.broker import Broker

T = TypeVar("T")

FAILED, USAGE, UNKNOWN_CONN_ID, PARTIAL = 1, 2, 3, 4
CANNOT_RUN, NO_SUCH_COMMAND = 126, 127
"""As in shells and env(1)."""


def run(work: Callable[[], T]) -> T:
    """Return what `work` returns, with a sign of life on a terminal; an error of this package becomes a message and an exit code."""
    from redshift_secrets.cli.progress import spinner
    from redshift_secrets.cli.site import NotConfiguredError, options
    from redshift_secrets.errors import RedshiftSecretsError, SettingsError

    try:
        with spinner("reading the configuration, asking AWS", quiet=options.verbose):
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
    if "\n" in message:  # with an example, in lines of its own
        typer.echo(f"redshift-secrets: {message}", err=True)
    else:
        note(f"redshift-secrets: {message}", "red")
    raise typer.Exit(code)


def unknown_conn_id(broker: Broker, conn_id: str) -> NoReturn:
    """End because no tag claims the conn_id, as far as can be seen."""
    from redshift_secrets.cli.conn_ids import view_all
    from redshift_secrets.operations.inspect import places
    from redshift_secrets.settings import values

    found = run(lambda: view_all(broker))
    for problem in found.tag_problems:
        note(problem, "yellow")
    if found.unseen:
        fail(f"no tag that can be seen claims the conn_id {conn_id!r}, but {'; '.join(found.unseen)}", PARTIAL)
    hint = values.nearest(conn_id, dict.fromkeys(row.conn_id for row in found.rows))
    where = places(found.scopes)
    fail(
        f"no tag claims the conn_id {conn_id!r} in {where}{hint}; `redshift-secrets list` shows what exists",
        UNKNOWN_CONN_ID,
    )
