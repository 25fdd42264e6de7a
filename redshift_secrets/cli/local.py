"""`redshift-secrets local up`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from redshift_secrets.cli.errors import USAGE, fail

local = typer.Typer(
    help="The laptop stand-in: simulated AWS and a real PostgreSQL, without an AWS account.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@local.callback()
def _group() -> None:
    """Have `up` be a command of its own name."""


@local.command()
def up(
    config: Annotated[
        Path | None, typer.Option(help="A warehouses.yaml; without it, two clusters and a workgroup.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port of the simulated AWS; 0 takes a free one.", min=0, max=65535)] = 0,
) -> None:
    """Run the stand-in in the foreground and print the environment to export. Ctrl-C stops it; nothing is kept."""
    try:
        from redshift_secrets.local import command
    except ImportError as error:
        fail(f"the stand-in needs more packages ({error.name}): pip install 'redshift-secrets[local]'", USAGE)
    from redshift_secrets.local.config import ConfigError

    try:
        command.up(config, port, echo=typer.echo)
    except (ConfigError, OSError) as error:
        fail(str(error), USAGE)
