"""`redshift-secrets local up` and `down`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from redshift_secrets.cli.errors import FAILED, USAGE, fail
from redshift_secrets.cli.progress import spinner

local = typer.Typer(
    help="The laptop stand-in: simulated AWS and a real PostgreSQL, without an AWS account.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@local.command(short_help="Run it and print the environment to export.")
def up(
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A warehouses.yaml; without it, two clusters and a workgroup.")
    ] = None,
    port: Annotated[
        int, typer.Option(metavar="PORT", help="Port of the simulated AWS; 0 takes a free one.", min=0, max=65535)
    ] = 0,
    env_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the environment to this file, for a shell or Docker Compose."),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Run in the background, until `local down`.")] = False,
) -> None:
    """Run the stand-in and print the environment to export. Ctrl-C stops it; nothing is kept."""
    command, detached = _modules()
    try:
        if detach:
            with spinner("starting"):
                lines = detached.start(config, port, env_file, pause=time.sleep)
            typer.echo("\n".join([*lines, "# redshift-secrets local down stops it."]))
            return

        def ready(lines: list[str], unset: str) -> None:
            for line in [*lines, "# Press Ctrl-C to stop."]:
                typer.echo(line)
            last.append(unset)

        last: list[str] = []
        command.up(config, port, env_file=env_file, ready=ready)
        typer.echo(f"# Stopped. In the shells that used it:\n{last[-1]}")
    except (command.ConfigError, command.EnvFileError, detached.DetachedError, OSError) as error:
        fail(str(error), USAGE)


@local.command(short_help="Stop the one in the background.")
def down() -> None:
    """Stop the stand-in that runs in the background, and print what to unset."""
    _, detached = _modules()
    try:
        with spinner("stopping"):
            unset = detached.stop(pause=time.sleep)
        typer.echo(f"# Stopped. In the shells that used it:\n{unset}")
    except detached.DetachedError as error:
        fail(str(error), FAILED)


def _modules() -> tuple[Any, Any]:
    try:
        from redshift_secrets.local import command, detached
    except ImportError as error:
        fail(f"the stand-in needs more packages ({error.name}): pip install 'redshift-secrets[local]'", USAGE)
    return command, detached
