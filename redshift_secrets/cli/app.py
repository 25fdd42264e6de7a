"""`redshift-secrets`: what exists here, where each field comes from, and whether it connects.

Exit codes: 0 success; 1 connection refused or failed, or a problem in a list; 2 usage or configuration error; 3 unknown conn_id; 4 partial listing, or a
file of the audit that cannot be read to its end. `exec` ends as its command does; 126 it cannot be run; 127 there is no such command.
"""

from __future__ import annotations

import sys

import typer

from redshift_secrets.cli.audit import audit
from redshift_secrets.cli.cache import cache
from redshift_secrets.cli.connect import connect_command
from redshift_secrets.cli.env import env
from redshift_secrets.cli.exec import exec_command
from redshift_secrets.cli.flush import flush
from redshift_secrets.cli.list import list_command
from redshift_secrets.cli.local import up
from redshift_secrets.cli.show import show
from redshift_secrets.cli.tag import tag
from redshift_secrets.cli.untag import untag

app = typer.Typer(
    name="redshift-secrets",
    help="Airflow gets its Redshift connections from cluster tags and IAM. These commands read the configuration of Airflow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they print local variables, and some of those hold passwords
)
local = typer.Typer(
    help="The laptop stand-in: simulated AWS and a real PostgreSQL, without an AWS account.", no_args_is_help=True
)
app.command("list")(list_command)
app.command("show")(show)
app.command("test")(connect_command)
app.command("exec")(exec_command)
app.command("env")(env)
app.command("tag")(tag)
app.command("untag")(untag)
app.command("cache")(cache)
app.command("flush")(flush)
app.command("audit")(audit)
app.add_typer(local, name="local")
local.command("up")(up)


def main() -> None:
    """Run the console script."""
    try:
        app()
    except BrokenPipeError:  # `redshift-secrets list | head`
        sys.stderr.close()
