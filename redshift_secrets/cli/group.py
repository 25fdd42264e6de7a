"""The commands for typer, each loaded when it is run, with the options that all commands of a site have."""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from redshift_secrets.cli import site
from redshift_secrets.cli.commands import COMMANDS, WITHOUT_SITE

_HELP = {"help_option_names": ["-h", "--help"]}


def _site_options(
    profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="AWS profile instead of that of the settings.")
    ] = None,
    region: Annotated[str | None, typer.Option(metavar="REGION", help="Look in this AWS region only.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens to standard error.")] = False,
) -> None:
    """What the commands of a site have in common."""


class LazyGroup(TyperGroup):
    """A group that imports a command when it is asked for it."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, `None` where there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, summary = COMMANDS[cmd_name]
        found = getattr(importlib.import_module(f"redshift_secrets.cli.{module}"), attribute)
        command = typer.main.get_command(found) if isinstance(found, typer.Typer) else _command(found, cmd_name)
        if cmd_name not in WITHOUT_SITE:
            for each in getattr(command, "commands", {"": command}).values():
                each.params += _options_of_sites()
        command.short_help = summary
        return command


def _command(function: Any, name: str) -> Any:
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    single.command(name, context_settings=_HELP)(function)
    return typer.main.get_command(single)


def _options_of_sites() -> list[Any]:
    options = [each for each in _command(_site_options, "options").params if each.name != "help"]
    for option in options:
        option.expose_value = False
        option.callback = _keep
    return options


def _keep(_ctx: Any, option: Any, value: Any) -> None:
    if option.name == "region" and value is not None:
        from redshift_secrets.settings import values

        try:
            values.region(value)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    setattr(site.options, option.name, value)


app = typer.Typer(
    cls=LazyGroup,
    context_settings=_HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they print local variables, and some of those hold passwords
    rich_markup_mode=None,  # it takes longer to load than all the rest
)


@app.callback()
def _group() -> None:
    """Airflow gets its Redshift connections from cluster tags and IAM."""
