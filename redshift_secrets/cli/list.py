"""`redshift-secrets list`."""

from __future__ import annotations

import fnmatch
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from redshift_secrets.cli.conn_ids import COMPLETED, view_all
from redshift_secrets.cli.errors import FAILED, PARTIAL, UNKNOWN_CONN_ID, run
from redshift_secrets.cli.output import Output, OutputOption, note, print_rows
from redshift_secrets.cli.site import options, site_settings

if TYPE_CHECKING:
    from redshift_secrets.operations.inspect import ConnectionView, SiteView

COLUMNS = ("conn_id", "warehouse", "account", "region", "database", "user", "auth", "team", "state", "problems")
TIERS = {"process": "memory", "host": "the host store", "fleet": "the fleet store", "aws": "AWS"}
_FIRST = ("", "conn_id", "warehouse", "state", "user", "region", "database", "account", "team", "auth")
"""The columns of a table, those first that stay longest where there is little room."""
_STS_SECONDS = 5.0

NoCacheOption = Annotated[bool, typer.Option("--no-cache", help="Ask AWS, whatever processes here have cached.")]


def list_command(
    conn_ids: Annotated[
        list[str] | None, typer.Argument(help="Only these; * and ? stand for other letters.", **COMPLETED)
    ] = None,
    account: Annotated[str | None, typer.Option(metavar="ID", help="Only warehouses of this AWS account.")] = None,
    problem: Annotated[bool, typer.Option("--problem", help="Only what something is wrong with.")] = False,
    no_cache: NoCacheOption = False,
    output: OutputOption = Output.table,
) -> None:
    """List every conn_id that a tag claims, with what is wrong with it. Ends with 1 where anything is."""
    from redshift_secrets.airflow.fallback import import_problems
    from redshift_secrets.operations.site import site_broker, site_caller, site_client, site_tiers

    settings = run(lambda: site_settings(filters=True))
    callers: list[str | None] = []
    aws = site_client(settings)
    asking = threading.Thread(target=lambda: callers.append(site_caller(aws)), daemon=True)
    asking.start()
    found = run(lambda: view_all(site_broker(settings, () if no_cache else site_tiers(settings), aws)))
    asking.join(_STS_SECONDS)
    matching = [row for row in found.rows if _matches(row, conn_ids or [], account)]
    rows = [row for row in matching if row.problems or not problem]
    if output in (Output.table, Output.wide):
        _print_table(rows, output)
    else:
        print_rows(list(map(_columns, rows)), COLUMNS, output)
    all_of_it = not (conn_ids or account is not None or options.region)
    if all_of_it:
        for each in (*found.tag_problems, *import_problems(settings.fallback)):
            note(each, "yellow")
        for each in found.ignored if not problem else ():
            note(each)
    for each in found.unseen:
        note(each, "yellow")
    said = list(_matching_nothing(found, conn_ids or [], account))
    if not matching and not said and not all_of_it:
        said = [f"nothing matches {_filters(conn_ids or [], account)}"]
    for each in said:
        note(each, "yellow")
    note(_summary(found, rows, next(iter(callers), None)), "dim")
    if found.unseen:
        raise typer.Exit(PARTIAL)
    if (conn_ids or account is not None) and not matching:
        raise typer.Exit(UNKNOWN_CONN_ID)
    wrong = any(row.problems for row in rows)
    if all_of_it:
        wrong = wrong or found.has_problems or bool(import_problems(settings.fallback))
    raise typer.Exit(FAILED if wrong else 0)


def answered(tier: str, age: float) -> str:
    """Return which tier has answered, as words."""
    return "asked AWS" if tier == "aws" else f"from {TIERS[tier]}, {age:.0f} s old (--no-cache asks AWS)"


def _matches(row: ConnectionView, conn_ids: list[str], account: str | None) -> bool:
    return (
        (not conn_ids or any(fnmatch.fnmatchcase(row.conn_id, each) for each in conn_ids))
        and account in (None, row.account)
        and options.region in (None, row.region)
    )


def _matching_nothing(found: SiteView, conn_ids: list[str], account: str | None) -> Iterator[str]:
    """Say of each name that nothing has it, with the nearest one that there is."""
    from redshift_secrets.settings import values

    known = dict.fromkeys(row.conn_id for row in found.rows)
    for each in conn_ids:
        if not fnmatch.filter(known, each):
            yield f"no tag claims a conn_id {each!r}{values.nearest(each, known)}"
    accounts = sorted({row.account for row in found.rows})
    if account is not None and account not in accounts:
        yield f"no conn_id is claimed in account {account or repr(account)}; there are some in: {', '.join(accounts) or 'none'}"


def _filters(conn_ids: list[str], account: str | None) -> str:
    words = [
        *map(repr, conn_ids),
        f"--account {account}" if account is not None else "",
        f"--region {options.region}" if options.region else "",
    ]
    return " ".join(filter(None, words))


def _print_table(rows: list[ConnectionView], output: Output) -> None:
    """Print a table, in which what something is wrong with is marked, and each problem once below it."""
    marked = [{**_columns(row), "": "!" if row.problems else ""} for row in rows]
    print_rows(marked, ("", *COLUMNS[:-1]), output, first=_FIRST, key=2)
    problems: dict[str, list[str]] = {}
    for row in rows:
        for problem in row.problems:
            problems.setdefault(problem, []).append(row.conn_id)
    for problem, conn_ids in problems.items():
        note(f"! {', '.join(dict.fromkeys(conn_ids))}: {problem}", "yellow", sys.stdout)


def _columns(row: ConnectionView) -> dict[str, object]:
    return {
        **{name: getattr(row, name) for name in COLUMNS},
        "warehouse": f"{row.kind} {row.warehouse}",
        "problems": list(row.problems),
    }


def _summary(found: SiteView, rows: list[ConnectionView], caller: str | None) -> str:
    from redshift_secrets.operations.inspect import places

    conn_ids, warehouses = len({row.conn_id for row in rows}), len({row.arn for row in rows})
    wrong = len({row.conn_id for row in rows if row.problems})
    counts = f"{_counted(conn_ids, 'conn_id')} of {_counted(warehouses, 'warehouse')}, {wrong or 'none'} with a problem"
    who = f"as {caller}" if caller else "as an AWS identity that STS does not confirm"
    return f"{counts}; looked {who} in {places(found.scopes)}; {answered(found.tier, found.age)}"


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
