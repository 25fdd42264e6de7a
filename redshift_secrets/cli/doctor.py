"""`redshift-secrets doctor`."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from redshift_secrets.cli.errors import FAILED, PARTIAL, run
from redshift_secrets.cli.output import Output, OutputOption, note, paint, print_document
from redshift_secrets.cli.progress import say
from redshift_secrets.cli.site import NotConfiguredError, options, site_settings, stdout_for_the_result

if TYPE_CHECKING:
    from redshift_secrets.operations.doctor.verdicts import Verdict

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red", "unknown": "yellow"}
_WIDE = 100
"""With fewer columns, an ARN would not fit beside the first two."""


def doctor(output: OutputOption = Output.table) -> None:
    """Find out whether this machine can serve connections: configuration, AWS, warehouses, tags, stores. Says what to do where not.

    Asks AWS read-only calls, mints a credential for each login that tags ask for and throws it away. Ends with 1 where there is a
    problem, with 4 where something could not be found out.
    """
    verdicts = run(_verdicts)
    if output in (Output.json, Output.yaml):
        print_document([_record(each) for each in verdicts], output)
    else:
        _print(verdicts, sys.stdout.isatty() and output is not Output.plain)
    statuses = {each.status for each in verdicts}
    raise typer.Exit(FAILED if "problem" in statuses else PARTIAL if "unknown" in statuses else 0)


@stdout_for_the_result()
def _verdicts() -> list[Verdict]:
    try:
        settings = site_settings()
    except NotConfiguredError:
        from redshift_secrets.operations.doctor import examine_worker

        verdicts = examine_worker()
        if not verdicts:
            raise
        return verdicts
    from redshift_secrets.operations.doctor import Patience, examine

    given = {"regions": options.region and "--region", "profile_name": options.profile and "--profile"}
    overridden = {name: option for name, option in given.items() if option}
    return examine(settings, Patience(_aws_patience(settings.aws_timeout_seconds)), say, overridden=overridden)


def _aws_patience(seconds: float) -> float:
    """A call may take as long as a lookup, and no shorter than by default: calls are made several at a time here."""
    return max(10.0, seconds)


def _record(verdict: Verdict) -> dict[str, object]:
    return {
        "check": verdict.check,
        "verdict": verdict.status,
        "message": verdict.message,
        "where": list(verdict.where),
    }


def _print(verdicts: Sequence[Verdict], is_terminal: bool) -> None:
    width = shutil.get_terminal_size().columns if is_terminal else None
    for line in lines(verdicts, width):
        print(line)
    numbers = {status: sum(each.status == status for each in verdicts) for status in _COLOURS if status != "ok"}
    found = [f"{number} {status}{_ending(status, number)}" for status, number in numbers.items() if number]
    note(", ".join(found) or "nothing is wrong")


def lines(verdicts: Sequence[Verdict], width: int | None) -> Iterator[str]:
    """Return a line for each verdict; for a terminal of `width` columns in colour, and with long ones broken between words."""
    check_width = max((len(each.check) for each in verdicts), default=0)
    status_width = max((len(each.status) for each in verdicts), default=0)
    begin = " " * (check_width + status_width + 4)
    for each in verdicts:
        head, status = f"{each.check.ljust(check_width)}  ", each.status.ljust(status_width)
        if width is None:
            yield f"{head}{status}  {each.message}"
            continue
        indent = begin if width >= _WIDE else "    "
        fits = len(each.message.partition(" ")[0]) <= width - len(begin)
        wrapped = textwrap.wrap(
            each.message,
            width,
            initial_indent=begin if fits else indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        first, others = (wrapped[0].strip(), wrapped[1:]) if fits else ("", wrapped)
        yield f"{head}{paint(status, _COLOURS[each.status])}  {first}".rstrip()
        yield from others


def _ending(status: str, number: int) -> str:
    return "s" if number > 1 and status != "unknown" else ""
