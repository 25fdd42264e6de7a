"""`redshift-secrets migrate`: `plan`, `check` and `finish`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, NamedTuple, TextIO

import typer

from redshift_secrets.cli.errors import FAILED, PARTIAL, USAGE, fail, run
from redshift_secrets.cli.output import Output, OutputOption, note, print_document, print_rows
from redshift_secrets.cli.site import site_settings, stdout_for_the_result
from redshift_secrets.cli.tag import Form
from redshift_secrets.errors import one_line

if TYPE_CHECKING:
    from redshift_secrets.operations.migrate.comparing import Comparison
    from redshift_secrets.operations.migrate.plan import Move, Plan, Seen
    from redshift_secrets.operations.migrate.reading import Stored
    from redshift_secrets.settings import Settings

migrate = typer.Typer(
    help="Move stored connections to tags, one at a time or all together. No password is copied.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,  # they print local variables
    rich_markup_mode=None,
)

FromOption = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        metavar="PLACE",
        help="Where connections are stored: database, environment, secrets-manager[:PREFIX], parameter-store[:PREFIX], or a file of"
        " `airflow connections export`; repeatable. Without it: where this Airflow looks.",
    ),
]
ConnIdOption = Annotated[list[str] | None, typer.Option(metavar="CONN_ID", help="Only this conn_id; repeatable.")]
PrintOption = Annotated[
    Form | None, typer.Option("--print", help="Print the tags for another tool, and nothing else.", show_default=False)
]

_AT_ONCE = 8
"""Logins: a cluster has room for some hundreds."""


class _Site(NamedTuple):
    settings: Settings
    stored: Stored
    seen: Seen
    plan: Plan


@migrate.command(short_help="Show which tags would serve what is stored.")
def plan(
    places: FromOption = None,
    conn_id: ConnIdOption = None,
    form: PrintOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Show which tags would serve what is stored, what would be different, and what cannot be moved and why. Writes nothing."""
    from redshift_secrets.operations.migrate import rendering

    site = _site(places, conn_id)
    if form is not None:
        typer.echo(rendering.code(site.plan, form.value))
    elif output in (Output.json, Output.yaml):
        print_document(rendering.as_document(site.plan, site.stored, site.seen), output)
    else:
        said = rendering.remarks(site.plan)
        print_rows(rendering.rows(site.plan, said), rendering.COLUMNS, output)
        stream = sys.stdout if output in (Output.table, Output.wide) else sys.stderr
        lines = [f"{remark.number} {remark.text} ({_some(remark.conn_ids)})" for remark in said]
        lines += [f"one connection under several names: {' '.join(names)}" for names in rendering.twins(site.plan)]
        if site.plan.moves:
            print(file=stream)
        for line in lines:
            note(line, stream=stream)
        if lines:
            print(file=stream)
        for sentence in rendering.sentences(site.plan, site.stored, site.seen):
            note(sentence, stream=stream)
        _say_what_to_set(site, stream)
    _say_what_is_missing(site)
    raise typer.Exit(_code(site))


@migrate.command(short_help="Log in both ways and compare.")
def check(places: FromOption = None, conn_id: ConnIdOption = None, output: OutputOption = Output.table) -> None:
    """Log in as what is stored and as the tags say, and compare user, database, groups and roles. Ends with 1 where they differ."""
    site = _site(places, conn_id)
    _say_what_is_missing(site)
    served = _served(site, conn_id)
    differ = False
    rows = []
    for each in _compared(site, [move for move in served if move.state == "served"], places):
        differ = differ or not each.equal
        rows.append(
            {"conn_id": each.conn_id, "login": _verdict(each), "found": "; ".join(each.differences) or _session(each)}
        )
        if output is Output.table:
            note(f"{each.conn_id}: {rows[-1]['login']}, {rows[-1]['found']}", stream=sys.stdout)
    if output is not Output.table:
        print_rows(rows, ("conn_id", "login", "found"), output)
    refused = [move for move in served if move.state == "refused"]
    for move in refused:
        note(f"{move.conn_id}: refused, {'; '.join(move.reasons)}")
    if not rows and not refused:
        typer.echo("no stored connection is claimed by a tag yet: see `redshift-secrets migrate plan`", err=True)
    raise typer.Exit(FAILED if differ or refused else _code(site))


@migrate.command(short_help="List what can go, and the way back.")
def finish(places: FromOption = None, conn_id: ConnIdOption = None) -> None:
    """List the stored connections that can go, the command for each, and the way back. Deletes nothing."""
    from redshift_secrets.operations.migrate import rendering

    site = _site(places, conn_id)
    served = [move for move in _served(site, conn_id) if move.state == "served"]
    by_name = {(under.conn_id, under.used.team or ""): under for under in site.stored.conn_ids}
    for move, each in zip(served, _compared(site, served, places), strict=True):
        typer.echo(one_line(f"# {move.conn_id}: served from {move.warehouse}; login: {_verdict(each)}"))
        for text in each.differences:
            typer.echo(one_line(f"# {text}"))
        for entry in by_name[move.conn_id, move.team].entries:
            keep = "# differs, look at it first: " if each.equal is False else ""
            typer.echo(f"{keep}{rendering.removal(entry.place)}")
            typer.echo(f"# way back: {rendering.way_back(move, entry.place, site.settings)}")
    if not served:
        typer.echo("no stored connection can go yet: see `redshift-secrets migrate plan`", err=True)
    elif site.plan.managed_now and site.settings.managed_conn_ids is None:
        typer.echo(
            f'# in backend_kwargs, for what has moved so far: "managed_conn_ids": {json.dumps(site.plan.managed_now)}'
        )
    _say_what_is_missing(site)
    raise typer.Exit(_code(site))


@stdout_for_the_result()
def _site(places: Sequence[str] | None, conn_ids: Sequence[str] | None) -> _Site:
    """Read what is stored, see what there is, and plan."""
    from redshift_secrets.airflow.stored import StoredError
    from redshift_secrets.operations.migrate.plan import make_plan, see_everything
    from redshift_secrets.operations.migrate.reading import read_stored, sources
    from redshift_secrets.settings import values

    environ = dict(os.environ)
    settings = run(site_settings)
    try:
        found = sources(places or (), settings)
    except StoredError as error:
        fail(str(error), USAGE)
    with ThreadPoolExecutor(1) as pool:  # AWS answers while the places are read
        seeing = pool.submit(see_everything, settings)
        stored = run(lambda: read_stored(settings, found, environ, conn_ids or ()))
        seen = run(seeing.result)
    missing = set(conn_ids or ()) - {under.conn_id for under in stored.conn_ids}
    if missing:
        known = "; ".join(stored.failures) or f"looked in: {', '.join(stored.counts)}"
        everything = stored if stored.failures else run(lambda: read_stored(settings, found, environ))
        others = [under.conn_id for under in everything.conn_ids]
        names = ", ".join(f"{conn_id!r}{values.nearest(conn_id, others)}" for conn_id in sorted(missing))
        fail(f"no connection is stored under {names}; {known}", FAILED)
    return _Site(settings, stored, seen, run(lambda: make_plan(settings, stored, seen)))


def _served(site: _Site, conn_ids: Sequence[str] | None) -> list[Move]:
    """The rows that tags claim; with conn_ids, each of these must be one."""
    claimed = [move for move in site.plan.moves if move.state in ("served", "refused")]
    if conn_ids:
        missing = set(conn_ids) - {move.conn_id for move in claimed}
        if missing:
            fail(f"no tag claims {', '.join(sorted(missing))} yet: see `redshift-secrets migrate plan`", FAILED)
    return claimed


def _compared(site: _Site, served: Sequence[Move], places: Sequence[str] | None) -> Iterator[Comparison]:
    """Log in twice for each of these, several at once, and yield how that compares, in their order."""
    from redshift_secrets.operations.migrate.comparing import compare
    from redshift_secrets.operations.migrate.reading import read_stored, sources
    from redshift_secrets.operations.site import site_broker

    if not served:
        return
    settings = site.settings
    with stdout_for_the_result():
        # Passwords are read for these alone, and stay in memory.
        names = [move.conn_id for move in served]
        stored = read_stored(settings, sources(places or (), settings), dict(os.environ), names, passwords=True)
        under = {(each.conn_id, each.used.team or ""): each.used for each in stored.conn_ids}
        broker = site_broker(settings)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(lambda move: compare(broker, under[move.conn_id, move.team]), served)


def _verdict(each: Comparison) -> str:
    if each.equal is None:
        return "not compared"
    return "the same" if each.equal else "differs"


def _session(each: Comparison) -> str:
    if isinstance(each.tagged, str):
        return each.tagged
    parts = [f"user {each.tagged.user}", f"database {each.tagged.database}"]
    for name in ("groups", "roles"):
        found = getattr(each.tagged, name)
        parts.append(f"{name} {'not known' if found is None else ' '.join(found) or 'none'}")
    return ", ".join(parts)


def _say_what_to_set(site: _Site, stream: TextIO) -> None:
    """Not in lines that fit a terminal: it is to be copied."""
    plan = site.plan
    if plan.changes:
        print("the tags: redshift-secrets migrate plan --print aws|terraform|cloudformation", file=stream)
    if plan.managed_now and site.settings.managed_conn_ids is None:
        print(f'for what has moved so far: "managed_conn_ids": {json.dumps(plan.managed_now)}', file=stream)
    if plan.covered:
        print("managed_conn_ids matches all of them already", file=stream)
    elif plan.changes:
        print(f'after the plan: "managed_conn_ids": {json.dumps(plan.managed_then)}', file=stream)


def _say_what_is_missing(site: _Site) -> None:
    from redshift_secrets.lookup.reasons import causes

    for failure in site.stored.failures:
        note(f"not read: {failure}; --from names the places to read")
    for cause in causes([(each.scope, each.error) for each in site.seen.unseen]):
        note(f"not listed: {cause}")
    for change in site.plan.changes:
        for warning in change.warnings:
            note(f"warning: {warning}")


def _some(conn_ids: Sequence[str]) -> str:
    more = len(conn_ids) - 3
    return ", ".join(conn_ids) if more < 2 else f"{', '.join(conn_ids[:3])} and {more} more"


def _code(site: _Site) -> int:
    if not site.stored.counts:
        return USAGE
    return PARTIAL if site.stored.failures or site.seen.unseen else 0
