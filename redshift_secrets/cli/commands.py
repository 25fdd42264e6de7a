"""The commands by name: where each is, and what it does in a few words. Imports next to nothing, so that `--help` takes no time."""

from __future__ import annotations

import os

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DESCRIPTION = (
    "Airflow gets its Redshift connections from cluster tags and IAM. These commands read the configuration of Airflow."
)

COMMANDS: Mapping[str, tuple[str, str, str]] = {
    "doctor": ("doctor", "doctor", "Find out whether this machine can serve, and what to do where not."),
    "list": ("list", "list_command", "List every conn_id that a tag claims, with what is wrong with it."),
    "show": ("show", "show", "Show which tag, setting or default each field comes from."),
    "test": ("connect", "connect_command", "Connect as a task would, and time each step."),
    "exec": ("exec", "exec_command", "Run a command that logs in as a task would: psql, dbt, a notebook."),
    "env": ("env", "env", "Print what gives a shell the login of a connection."),
    "tag": ("tag", "tag", "Have a warehouse claim conn_ids, and set what its tags say of them."),
    "untag": ("untag", "untag", "Have a warehouse claim conn_ids no more."),
    "policy": ("policy", "policy", "Print the smallest IAM policies for what is configured and tagged."),
    "migrate": ("migrate", "migrate", "Move stored connections to tags: plan, check, finish."),
    "cache": ("cache", "cache", "Show what processes share, and where."),
    "flush": ("flush", "flush", "Empty what processes share."),
    "audit": ("audit", "audit", "Show which task used which warehouse, from the files of the audit."),
    "local": ("local", "local", "Simulated AWS and a real PostgreSQL, without an AWS account."),
}
"""The module in this folder, its function (or the `typer.Typer` of a group of commands), and the line in `--help`."""

WITHOUT_SITE = frozenset({"audit", "local"})
"""Commands that read nothing of Airflow's configuration, and so have no options that change what it says."""


HELP_COLUMNS = 80
"""For terminals of this width, and wider ones, `COMMAND --help` is written beforehand: typer alone takes longer to load than that may."""


def help_file(words: Sequence[str]) -> str:
    """Return the path of what `COMMAND --help` prints: a test holds it to what typer would print, and `make docs` writes it."""
    return os.path.join(os.path.dirname(__file__), "help", f"{'-'.join(words)}.txt")


def written_help(words: Sequence[str]) -> str | None:
    """Return what is written for a command (or group and command), `None` where typer has to be asked."""
    if not all(word.isalpha() for word in words) or _columns() < HELP_COLUMNS:
        return None
    try:
        with open(help_file(words), encoding="utf-8") as file:
            return file.read()
    except OSError:
        return None


def _columns() -> int:
    """As `shutil.get_terminal_size`, which takes longer to load than the rest of this."""
    columns = os.environ.get("COLUMNS", "")
    try:
        return (int(columns) if columns.isdecimal() else 0) or os.get_terminal_size(1).columns or HELP_COLUMNS
    except OSError:  # no terminal
        return HELP_COLUMNS


def overview(program: str) -> str:
    """Return what `--help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, _, summary) in COMMANDS.items()]
    return "\n".join(
        [
            f"Usage: {program} COMMAND [ARGUMENTS]",
            "",
            *_wrapped(DESCRIPTION),
            "",
            "Commands:",
            *lines,
            "",
            "Options:",
            "  -h, --help              Show this, or what a command takes: COMMAND --help.",
            "  --version               Print the version.",
            "  --install-completion    Install completion for the shell that runs this.",
        ]
    )


def _wrapped(text: str, width: int = 80) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*lines, line]
