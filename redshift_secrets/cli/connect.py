"""`redshift-secrets test`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redshift_secrets.cli.conn_ids import COMPLETED, view_all
from redshift_secrets.cli.errors import FAILED, PARTIAL, USAGE, fail, run, unknown_conn_id
from redshift_secrets.cli.list import TIERS, NoCacheOption
from redshift_secrets.cli.output import Output, OutputOption, note, paint, print_document, print_rows
from redshift_secrets.cli.progress import make_room, spinner
from redshift_secrets.errors import one_line

if TYPE_CHECKING:
    from redshift_secrets.lookup.audit import Audit
    from redshift_secrets.lookup.broker import Broker
    from redshift_secrets.model import TaskContext
    from redshift_secrets.operations.connect import Attempt, Step

TeamOption = Annotated[str | None, typer.Option(metavar="TEAM", help="Look it up for this Airflow team.")]
DagIdOption = Annotated[
    str | None,
    typer.Option(metavar="DAG_ID", help="Look it up for a task of this DAG, where db_user names a user for each."),
]

COLUMNS = ("conn_id", "result", "database", "user", "seconds", "credential")


def connect_command(
    conn_id: Annotated[
        str | None, typer.Argument(help="The conn_id that DAGs use.", show_default=False, **COMPLETED)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="One after the other, each as its team.")] = False,
    team: TeamOption = None,
    dag_id: DagIdOption = None,
    no_cache: NoCacheOption = False,
    output: OutputOption = Output.table,
) -> None:
    """Connect as a task would, time each step, and print the user that is logged in.

    Steps say which cache has answered them, or that AWS was asked.
    """
    from redshift_secrets.cli.site import options, site_settings
    from redshift_secrets.model import TaskContext
    from redshift_secrets.operations.site import site_audit, site_broker, site_tiers

    if (conn_id is None) != everything:
        fail("test needs either a conn_id or --all", USAGE)
    settings = run(site_settings)
    broker = run(lambda: site_broker(settings, () if no_cache else site_tiers(settings)))
    audit = site_audit(settings)
    unseen: tuple[str, ...] = ()
    if conn_id is not None:
        wanted = [(conn_id, TaskContext(dag_id, team))]
    else:
        found = run(lambda: view_all(broker))
        unseen = found.unseen
        wanted = [
            (each, TaskContext(dag_id, of)) for each, of in dict.fromkeys((x.conn_id, x.team) for x in found.rows)
        ]
    shows_steps = output in (Output.table, Output.wide) and (not everything or options.verbose)
    results = []
    for each, task in wanted:
        with spinner(f"connecting as {each}"):
            result = _attempt(broker, each, task, shows_steps, audit)
        if result is None:
            unknown_conn_id(broker, each)
        results.append(result)
        if output in (Output.table, Output.wide):
            _print_result(result, everything)
    if output in (Output.json, Output.yaml):
        print_document(results, output)
    elif output is Output.plain:
        print_rows([_columns(each) for each in results], COLUMNS, output)
    for why in unseen:
        note(why, "yellow")
    failed = sum(not each["connected"] for each in results)
    if everything and output is not Output.plain:
        note(f"{len(results) - failed} of {len(results)} connect", "red" if failed else "green")
    raise typer.Exit(FAILED if failed else PARTIAL if unseen else 0)


def _attempt(
    broker: Broker, conn_id: str, task: TaskContext, shows_steps: bool, audit: Audit | None
) -> dict[str, Any] | None:
    """Return what became of an attempt as plain data, `None` where no tag claims the conn_id."""
    from redshift_secrets.errors import RedshiftSecretsError
    from redshift_secrets.operations.connect import Attempt, connect

    steps: list[Step] = []

    def keep(step: Step) -> None:
        steps.append(step)
        if shows_steps:
            make_room()
            _print_step(step)

    attempt: Attempt | None
    try:
        attempt = connect(broker, conn_id, task, keep, audit)
    except RedshiftSecretsError as error:
        attempt = Attempt(failure=str(error))
    if attempt is None:
        return None
    return {
        "conn_id": conn_id,
        "team": task.team,
        "connected": attempt.failure is None,
        "database": attempt.database,
        "user": attempt.user,
        "failure": attempt.failure,
        "steps": [{"name": x.name, "seconds": round(x.seconds, 6), "tier": x.tier, "found": x.found} for x in steps],
    }


def _print_step(step: Step) -> None:
    came_from = "" if step.tier is None else "asked AWS" if step.tier == "aws" else f"from {TIERS[step.tier]}"
    print(f"{step.name:<34}{step.seconds * 1000:9.1f} ms  {came_from}".rstrip())
    if step.found:
        note(f"  {step.found}", "dim", sys.stdout)


def _print_result(result: dict[str, Any], with_name: bool) -> None:
    name = f"{result['conn_id']}: " if with_name else ""
    if result["connected"]:
        seconds = sum(step["seconds"] for step in result["steps"])
        taken = f" in {seconds:.1f} s" if with_name else ""
        line = f"{name}logged in to database {result['database']} as {result['user']}{taken}"
        print(paint(one_line(line), "green"))  # the names are what the server says
    else:
        note(f"{name}failed: {result['failure']}", "red", sys.stdout)


def _columns(result: dict[str, Any]) -> dict[str, object]:
    tiers = {step["name"]: step["tier"] for step in result["steps"]}
    return {
        "conn_id": result["conn_id"],
        "result": "connected" if result["connected"] else result["failure"],
        "database": result["database"],
        "user": result["user"],
        "seconds": f"{sum(step['seconds'] for step in result['steps']):.3f}",
        "credential": tiers.get("credential"),
    }
