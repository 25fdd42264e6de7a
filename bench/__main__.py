"""`python -m bench`: measure, print one table, and optionally write `docs/performance.md`."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from pathlib import Path

from bench import (
    commands,
    crossings,
    crowds,
    day,
    in_process,
    large,
    machine,
    new_process,
    report,
    round_trips,
    servers,
)
from bench.figures import Effort, NotMeasuredError, Row
from bench.report import Measured

ROWS = (
    Row("memory", "a lookup already in process memory", in_process.found),
    Row("miss", "a miss with a fresh catalog", in_process.missed),
    Row("passwords", "the thousandth password registered with Airflow's maskers", in_process.passwords),
    Row("first-lookup", "the first lookup in a new process on a warm host", new_process.first_lookup),
    Row("import", "importing and constructing the backend", new_process.importing),
    Row("catalog-size", "the same new-process lookup with 10,000 connections in the catalog", new_process.catalog_size),
    Row("crossings", "how much of the package a lookup goes through", crossings.of_a_lookup),
    Row("fleet-round-trips", "round trips to Redis of a lookup in the fleet store", round_trips.of_a_fleet_lookup),
    Row("crowd", "200 processes started together on a cold host", crowds.one_host),
    Row("fleet", "10 hosts of 20 processes each, cold, one Redis", crowds.one_fleet),
    Row("api-server", "200 lookups at once in an API server with AWS in a black hole", servers.api_server),
    Row("page", "8 viewers of the page in Airflow with AWS in a black hole", servers.page),
    Row("triggerer", "2,000 concurrent lookups in a triggerer", servers.triggerer),
    Row("day", "a day of a million lookups over 5,000 connections and 500 hosts", day.whole_day),
    Row("doctor", "a check of a site of 200 connections", commands.doctor),
    Row("migrate", "the plan of a move of 200 stored connections", commands.migrate_plan),
    Row("list", "a list of 200 connections", commands.listing),
    Row("help", "the list of commands, and what one takes", commands.usage),
    Row("clusters", "10,000 tagged clusters in 4 regions", large.ten_thousand_clusters),
)


def main() -> int:
    """Measure the chosen rows. Returns 0 in any case; the table says which limits are met."""
    arguments = _arguments()
    chosen = [row for row in ROWS if not arguments.rows or row.name in arguments.rows]
    measured = [_measure(row, Effort(arguments.quick)) for row in chosen]
    described = machine.describe()
    print("\n".join(f"{name}: {value}" for name, value in described))
    print()
    print(report.table(measured))
    if arguments.write is not None:
        date = time.strftime("%Y-%m-%d", time.gmtime())
        arguments.write.write_text(report.document(measured, described, date), encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Compare this backend with its peers on this machine."
    )
    names = [row.name for row in ROWS]
    parser.add_argument("--rows", nargs="+", choices=names, metavar="ROW", help=f"only these: {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="few rounds, for a first look")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the page; needs all rows and all rounds")
    arguments = parser.parse_args()
    if arguments.write is not None and (arguments.rows or arguments.quick):
        parser.error("--write cannot be combined with --rows or --quick: the page is one complete run")
    return arguments


def _measure(row: Row, effort: Effort) -> Measured:
    started = time.monotonic()
    print(f"measuring {row.work} (--rows {row.name}) ... ", end="", file=sys.stderr, flush=True)
    try:
        measured = Measured(row, tuple(row.measure(effort)))
    except NotMeasuredError as error:
        measured = Measured(row, reason=str(error))
    except Exception as error:  # a row that fails must not stop the others
        traceback.print_exc()
        measured = Measured(row, reason=f"an unexpected {type(error).__name__}")
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
    return measured


if __name__ == "__main__":
    sys.exit(main())
