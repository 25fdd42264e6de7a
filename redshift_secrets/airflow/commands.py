"""How a command of ours becomes one of the `airflow` command line (from 3.2 on, by the key `cli` of the provider information).

https://airflow.apache.org/docs/apache-airflow-providers/core-extensions/cli-commands.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def airflow_command(name: str, summary: str, run: Callable[[Sequence[str]], None]) -> Any:
    """Return `airflow <name> ...`, for which `run` gets all further words of the command line."""
    from airflow.cli.cli_config import ActionCommand, Arg

    class AllWords(Arg):
        def add_to_parser(self, parser: Any) -> None:
            """Have the parser take no word for an option, `--help` included: `run` reads them."""
            parser.prefix_chars = "\0"
            super().add_to_parser(parser)

    argument: Any = AllWords
    return ActionCommand(
        name=name, help=summary, func=lambda given: run(given.words), args=[argument(("words",), nargs="...")]
    )
