"""`COMMAND --help` is written beforehand, and says what the commands take."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.core import TyperGroup

from redshift_secrets.cli import app, commands
from redshift_secrets.cli.commands import COMMANDS, help_file, written_help
from redshift_secrets.cli.group import LazyGroup
from redshift_secrets.cli.group import app as typer_app


def everything():
    """Yield the words of each command, and of the commands of each group, with the command itself."""
    group = LazyGroup()
    for name in COMMANDS:
        command = group.get_command(None, name)
        yield [name], command
        for each in command.list_commands(None) if isinstance(command, TyperGroup) else ():
            yield [name, each], command.get_command(None, each)


def squeezed(text: str) -> str:
    """Without what depends on the version of typer: how it fills lines."""
    return re.sub(r"[\s|]+", "", text)


ALL = pytest.mark.parametrize(
    ("words", "command"), [pytest.param(*each, id=" ".join(each[0])) for each in everything()]
)


@ALL
def test_what_is_written_is_what_the_command_takes(request, monkeypatch, capsys, words, command):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        typer_app([*words, "--help"], prog_name="redshift-secrets")
    rendered = capsys.readouterr().out
    path = Path(help_file(words))
    if request.config.getoption("--write-tables"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(rendered, encoding="utf-8")
    written = path.read_text(encoding="utf-8")
    assert max(map(len, written.splitlines())) <= 80
    assert written.startswith(f"Usage: redshift-secrets {' '.join(words)} ")
    assert sorted(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", written)) == sorted(
        re.findall(r"(?<![\w-])--?[a-z][a-z-]*", rendered)
    )
    for text in (command.help, *(getattr(each, "help", None) for each in command.params)):
        assert squeezed(text or "") in squeezed(written)


def test_nothing_is_written_for_what_there_is_not():
    written = {path.name for path in Path(help_file(["list"])).parent.iterdir()}
    assert written == {Path(help_file(words)).name for words, _ in everything()}


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("words", [["show"], ["migrate"], ["migrate", "plan"]])
def test_it_is_printed_without_loading_more_than_python_itself(words, option):
    code = (
        "import sys; before = set(sys.modules); from redshift_secrets.cli.app import main\n"
        f"main({[*words, option]!r})\n"
        "print(*set(sys.modules) - before, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == Path(help_file(words)).read_text(encoding="utf-8")
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert loaded <= {"redshift_secrets", "__future__", "importlib", "warnings"}


@pytest.mark.parametrize(
    ("columns", "is_written"), [("80", True), ("200", True), ("79", False), ("0", True), ("", True), ("x", True)]
)
def test_a_narrow_terminal_gets_narrow_lines(monkeypatch, columns, is_written):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(commands.os, "get_terminal_size", lambda _number: (_ for _ in ()).throw(OSError()))
    assert (written_help(["show"]) is not None) == is_written


def test_the_width_of_the_terminal_counts(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(commands.os, "get_terminal_size", lambda _number: os.terminal_size((60, 24)))
    assert written_help(["show"]) is None


@pytest.mark.parametrize(
    "words", [["show", "analytics"], ["show", "../../README"], ["migrate-plan"], ["exec", "x", "--"]]
)
def test_other_words_are_for_the_command(words):
    assert written_help(words) is None


def test_another_name_of_the_program_is_in_its_help(capsys):
    with pytest.raises(SystemExit):
        app.main(["show", "--help"], "airflow redshift-secrets")
    assert "Usage: airflow redshift-secrets show" in capsys.readouterr().out
