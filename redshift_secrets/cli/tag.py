"""`redshift-secrets tag`."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from redshift_secrets.cli.errors import FAILED, USAGE, fail, run
from redshift_secrets.cli.site import site_settings
from redshift_secrets.errors import one_line

if TYPE_CHECKING:
    from redshift_secrets.model import Warehouse
    from redshift_secrets.operations.tag import TagChange
    from redshift_secrets.settings import Settings

Plan = Callable[["Settings", "Warehouse"], "TagChange"]


class Form(str, enum.Enum):  # StrEnum is 3.11
    """What a change can be printed as."""

    aws = "aws"
    terraform = "terraform"
    cloudformation = "cloudformation"


WarehouseArgument = Annotated[
    str, typer.Argument(metavar="WAREHOUSE", help="Identifier or ARN of a cluster or a Serverless workgroup.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show the difference, write nothing.")]
PrintOption = Annotated[
    Form | None, typer.Option("--print", help="Print it for another tool instead; writes nothing.", show_default=False)
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def tag(
    warehouse: WarehouseArgument,
    conn_id: Annotated[
        list[str] | None, typer.Option(metavar="CONN_ID", help="A conn_id that it is to claim; can be repeated.")
    ] = None,
    database: Annotated[str | None, typer.Option(metavar="NAME", help="Database name.")] = None,
    db_user: Annotated[str | None, typer.Option(metavar="NAME", help="Database user to log in as.")] = None,
    db_groups: Annotated[str | None, typer.Option(metavar="NAMES", help="Groups to join, separated by spaces.")] = None,
    db_roles: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Database roles (Serverless), separated by spaces.")
    ] = None,
    auto_create: Annotated[str | None, typer.Option(metavar="true|false", help="Create the user at login.")] = None,
    auth: Annotated[str | None, typer.Option(metavar="WAY", help="db-user, iam, secret, connector or auto.")] = None,
    duration: Annotated[str | None, typer.Option(metavar="SECONDS", help="Seconds that a credential is valid.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(metavar="ENDPOINT", help="default, custom-domain or vpc:<name>.")
    ] = None,
    conn_type: Annotated[str | None, typer.Option(metavar="redshift|postgres", help="Type of the connection.")] = None,
    team: Annotated[str | None, typer.Option(metavar="TEAM", help="The only Airflow team that may use it.")] = None,
    extra: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A key of the connection's extra; repeatable.")
    ] = None,
    dry_run: DryRunOption = False,
    form: PrintOption = None,
    yes: YesOption = False,
) -> None:
    """Have a warehouse claim conn_ids, and set what its tags say of them.

    Fields are for the given conn_ids alone where the warehouse claims others too; without a conn_id, for all that it claims.
    """
    from redshift_secrets.operations.tag import plan_tags

    given = {
        "database": database, "db-user": db_user, "db-groups": db_groups, "db-roles": db_roles, "auto-create": auto_create,
        "auth": auth, "duration": duration, "endpoint": endpoint, "conn-type": conn_type, "team": team,
    }  # fmt: skip
    fields = {name: value for name, value in given.items() if value is not None}
    for pair in extra or ():
        key, equals, value = pair.partition("=")
        if not key or not equals:
            fail(f"--extra must be KEY=VALUE, not {pair!r}", USAGE)
        fields[f"extra.{key}"] = value
    conn_ids = named(conn_id)
    if not conn_ids and not fields:
        fail("tag needs --conn-id, or a field to set", USAGE)
    change_tags(
        warehouse, conn_ids, lambda settings, found: plan_tags(settings, found, conn_ids, fields), dry_run, form, yes
    )


def named(conn_id: list[str] | None) -> list[str]:
    """Return the conn_ids of the options, none where there is no option; ends for an empty one, which a variable of a shell that is
    not set leaves, and which does not mean all."""
    words = [each.split() for each in conn_id or ()]
    if not all(words):
        fail("--conn-id is empty", USAGE)
    return [each for found in words for each in found]


def change_tags(name: str, conn_ids: list[str], plan: Plan, dry_run: bool, form: Form | None, yes: bool) -> None:
    """Show what a plan changes on a warehouse, ask, and write it."""
    from redshift_secrets.operations import caches
    from redshift_secrets.operations.site import site_broker, site_tagging
    from redshift_secrets.operations.tag import (
        PartlyWrittenError,
        as_code,
        check_unchanged,
        find_warehouse,
        plan_with_endpoints,
        warnings_of_claims,
        write,
    )

    settings = run(site_settings)
    aws = site_tagging(settings)
    change = run(lambda: plan_with_endpoints(settings, find_warehouse(settings, aws, name), plan))
    warehouse = change.warehouse
    typer.echo(one_line(f"{warehouse}, {warehouse.arn}"), err=form is not None)
    warnings = list(change.warnings)
    if conn_ids and change.written:
        warnings += warnings_of_claims(settings, site_broker(settings), warehouse, conn_ids)
    for warning in warnings:
        typer.echo(one_line(f"warning: {warning}"), err=True)
    for error in change.errors:
        typer.echo(one_line(f"error: {error}"), err=True)
    if change.errors:
        fail("nothing was written", FAILED)
    if not change.written and not change.removed:
        typer.echo("nothing to change", err=form is not None)
        return
    if form is not None:
        typer.echo(as_code(change, form.value))
        return
    for line in change.difference():
        typer.echo(one_line(line))
    if dry_run:
        return
    if not yes:
        if not sys.stdin.isatty():
            fail("nothing was written: there is no terminal to ask on; add --yes", USAGE)
        typer.confirm("Write this?", abort=True)
    partly: PartlyWrittenError | None = None

    def write_it() -> None:
        nonlocal partly
        check_unchanged(settings, aws, name, change)
        try:
            write(aws, change)
        except PartlyWrittenError as error:
            partly = error

    run(write_it)
    typer.echo("written" if partly is None else "written in part")
    # Running processes and the next one list the warehouses again; credentials are what they were.
    for line in run(lambda: caches.flush(settings, None, catalog=True, tagged=conn_ids)).lines:
        typer.echo(line)
    typer.echo(f"processes that this does not reach see it within {3 * settings.catalog_ttl_seconds:g} s")
    if partly is not None:
        fail(str(partly), FAILED)
