"""`redshift-secrets policy`."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from redshift_secrets.cli.errors import PARTIAL, USAGE, fail, run
from redshift_secrets.cli.site import site_settings
from redshift_secrets.errors import one_line


class Form(str, enum.Enum):  # StrEnum is 3.11
    """What policies can be printed as."""

    json = "json"
    terraform = "terraform"
    cloudformation = "cloudformation"


def policy(
    output: Annotated[Form, typer.Option("--output", "-o", help="How to print.")] = Form.json,
    caller: Annotated[
        str | None, typer.Option(metavar="ARN", help="ARN of the role or user that Airflow runs as.")
    ] = None,
    account: Annotated[
        str | None, typer.Option(metavar="ID", help="Only what is to be created in this account.")
    ] = None,
) -> None:
    """Print the smallest IAM policies for what is configured and tagged, with the trust policies of the roles.

    Where warehouses cannot be listed from here, theirs have wildcards instead of names; ends with 4 then.
    """
    from redshift_secrets.operations.policy import as_code, in_account, read_caller, site_policies

    if caller is not None:
        try:
            given, caller = caller, read_caller(caller)
        except ValueError as error:
            fail(f"--caller {error}", USAGE)
        if caller != given.strip():  # a session has no path
            typer.echo(
                f"note: the role of that session is taken for {caller}; if it has a path, name it by its own ARN",
                err=True,
            )
    site = run(lambda: site_policies(site_settings(), caller))
    for note in site.notes:
        typer.echo(one_line(f"note: {note}"), err=True)
    if account is not None:
        site = in_account(site, account)
        if not site.identities:
            fail(f"nothing is to be created in account {account}", USAGE)
    typer.echo(as_code(site, output.value))
    raise typer.Exit(0 if site.complete else PARTIAL)
