"""`redshift-secrets`: what exists here, where each field comes from, and whether it connects.

Exit codes: 0 success; 1 connection refused or failed, or a problem in a list; 2 usage or configuration error; 3 unknown conn_id or account; 4 partial listing,
something that `doctor` could not find out, or a file of the audit that cannot be read to its end. `exec` ends as its command does; 126 it cannot be run; 127 there is no such command.
"""

from __future__ import annotations

import os
import sys

from redshift_secrets.cli.commands import COMMANDS, overview, written_help

TYPE_CHECKING = False  # nothing is imported here that `--help` can do without

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

PROGRAM = "redshift-secrets"
SUMMARY = "List, show, test and tag the connections that come from tags of Redshift warehouses"


def main(arguments: Sequence[str] | None = None, program: str = PROGRAM) -> None:
    """Run the console script, or the same commands under another name."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):  # one that is closed, as under some schedulers
        if getattr(sys, name) is None:
            mode = os.O_WRONLY if number else os.O_RDONLY
            setattr(sys, name, os.fdopen(os.open(os.devnull, mode), "w" if number else "r"))
    try:
        try:
            _run(sys.argv[1:] if arguments is None else list(arguments), program)
        finally:
            sys.stdout.flush()  # while it can still be told that this failed
    except KeyboardInterrupt:  # while typer is imported; later on it ends the command itself
        sys.exit(130)
    except OSError as error:
        from errno import EDQUOT, EFBIG, EIO, ENOSPC

        is_gone = isinstance(error, BrokenPipeError)  # `redshift-secrets list | head`
        if not is_gone and error.errno not in (EDQUOT, EFBIG, EIO, ENOSPC):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes the rest when it ends
        if not is_gone:
            print(f"{program}: the output cannot be written: {error.strerror}", file=sys.stderr)
        sys.exit(1)


def _run(arguments: list[str], program: str) -> None:
    if "_REDSHIFT_SECRETS_COMPLETE" not in os.environ:
        # Before anything is imported that takes longer than Python itself.
        if arguments in ([], ["--help"], ["-h"]):
            print(overview(program))
            sys.exit(0 if arguments else 2)
        if arguments == ["--version"]:
            from redshift_secrets import __version__

            print(f"{program} {__version__}")
            return
        if not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            from redshift_secrets.settings import values

            hint = values.nearest(arguments[0], COMMANDS)
            print(
                f"{program}: there is no command {arguments[0]!r}{hint}; {program} --help lists them", file=sys.stderr
            )
            sys.exit(2)
        if program == PROGRAM and arguments[-1] in ("--help", "-h"):
            text = written_help(arguments[:-1])
            if text is not None:
                print(text, end="")
                return
    from redshift_secrets.cli.group import app

    app(arguments, prog_name=program)


def airflow_commands() -> list[Any]:
    """Return the commands for the `airflow` command line, which loads them for every command of its own: as one, whose parts are
    not looked at before it is run."""
    from redshift_secrets.airflow.commands import airflow_command

    return [airflow_command(PROGRAM, SUMMARY, lambda words: main(words, f"airflow {PROGRAM}"))]
