"""The commands by name: what they are called, what they share, and what `--help` does not load."""

from __future__ import annotations

import os
import subprocess
import sys
import types

import pytest

from redshift_secrets.cli import app, site
from redshift_secrets.cli.commands import COMMANDS, WITHOUT_SITE, overview
from redshift_secrets.cli.group import LazyGroup
from redshift_secrets.settings import Settings
from tests.support.airflow_parts import from_airflow_3_2

ALL = pytest.mark.parametrize("name", COMMANDS)


def run(capsys, *arguments):
    """Return the exit code, and what was printed to standard output and error."""
    try:
        app.main(arguments)
        code = 0
    except SystemExit as end:
        code = end.code or 0
    return code, *capsys.readouterr()


@pytest.fixture(autouse=True)
def no_options(monkeypatch):
    monkeypatch.setattr(site, "options", site.SiteOptions())


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_every_command_within_80_columns(capsys, option):
    code, printed, _ = run(capsys, option)
    assert code == 0
    assert all(f"\n  {name} " in printed for name in COMMANDS)
    assert max(map(len, printed.splitlines())) <= 80


def test_without_a_command_it_says_what_there_is(capsys):
    assert run(capsys) == (2, overview("redshift-secrets") + "\n", "")


def test_help_loads_little_more_than_python_itself():
    code = (
        "import sys; before = set(sys.modules); from redshift_secrets.cli.app import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(*set(sys.modules) - before, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert loaded <= {"redshift_secrets", "__future__", "importlib", "warnings"}


MAIN = "from redshift_secrets.cli.app import main; main()"


def writing_to(output, buffered, *arguments):
    return subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        env={**os.environ, "PYTHONUNBUFFERED": buffered},
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", ["--help", "list --help", "--version"])
@pytest.mark.parametrize("buffered", ["", "1"])
def test_an_output_that_cannot_be_written_is_one_sentence(command, buffered):
    with open("/dev/full", "w") as full:
        done = writing_to(full, buffered, *command.split())
    assert (done.returncode, done.stderr) == (
        1,
        "redshift-secrets: the output cannot be written: No space left on device\n",
    )


@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_pipe_that_is_closed_early_is_no_error(buffered):
    reader, writer = os.pipe()
    os.close(reader)
    done = writing_to(writer, buffered, "--help")
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_streams_that_are_closed_are_as_if_nobody_looked(monkeypatch):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    app.main(["--version"])
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        assert not stream.isatty()
        stream.close()


def test_version(capsys):
    code, printed, _ = run(capsys, "--version")
    assert (code, printed.split()[0]) == (0, "redshift-secrets")


def test_a_misspelled_command(capsys):
    code, printed, error = run(capsys, "lst")
    assert (code, printed) == (2, "")
    assert (
        error
        == "redshift-secrets: there is no command 'lst' (did you mean 'list'?); redshift-secrets --help lists them\n"
    )


@ALL
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_each_command_says_what_it_takes(capsys, name, option):
    words = [name, "plan"] if name == "migrate" else [name]  # a group leaves them to its commands
    code, printed, _ = run(capsys, *words, option)
    assert code == 0
    assert f"Usage: redshift-secrets {' '.join(words)}" in printed
    assert ("--profile" in printed and "--region" in printed and "--verbose" in printed) == (name not in WITHOUT_SITE)


@ALL
def test_each_command_is_there(name):
    assert LazyGroup().get_command(None, name) is not None


def test_what_the_command_line_says_of_the_site_beats_the_settings(monkeypatch):
    settings = Settings.from_kwargs(
        {
            "regions": ["eu-west-1", "eu-west-3"],
            "profile_name": "prod",
            "accounts": [{"role_arn": "arn:aws:iam::222222222222:role/a", "regions": ["us-east-1"]}],
        }
    )
    monkeypatch.setattr(site, "configured_settings", lambda: settings)
    assert site.site_settings() == settings
    site.options.profile, site.options.region = "dev", "eu-west-3"
    found = site.site_settings()
    assert (found.profile_name, found.regions) == ("dev", ("eu-west-3",))
    assert [each.regions for each in found.accounts] == [("eu-west-3",)]


@from_airflow_3_2
@pytest.mark.airflow
@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ([], 2, "Usage: airflow redshift-secrets COMMAND"),
        (["--help"], 0, "Usage: airflow redshift-secrets COMMAND"),
        (["list", "--help"], 0, "Usage: airflow redshift-secrets list [OPTIONS]"),
        (["exec", "x", "--", "no-such-program", "--help"], 127, "no-such-program: command not found"),
    ],
)
def test_the_same_commands_in_the_command_line_of_airflow(capsys, words, code, text):
    from airflow.cli.cli_parser import get_parser

    args = get_parser().parse_args(["redshift-secrets", *words])
    with pytest.raises(SystemExit) as end:
        args.func(args)
    assert end.value.code == code
    assert text in "".join(capsys.readouterr())


def test_a_command_keeps_what_it_is_given_for_the_site(monkeypatch, capsys):
    monkeypatch.setattr(site, "configured_settings", lambda: (_ for _ in ()).throw(site.NotConfiguredError("enough")))
    code, _, error = run(capsys, "show", "analytics", "--profile", "dev", "--region=eu-west-3", "-v")
    assert (code, error) == (2, "redshift-secrets: enough\n")
    assert vars(site.options) == {"profile": "dev", "region": "eu-west-3", "verbose": True}


def test_what_is_no_region_is_said_before_anything_is_loaded(monkeypatch, capsys):
    monkeypatch.setattr(site, "configured_settings", lambda: pytest.fail("loaded"))
    code, _, error = run(capsys, "list", "--region", "europe")
    assert code == 2
    assert "Invalid value for '--region': must be an AWS region such as eu-west-1, not 'europe'" in error


def test_ctrl_c_before_typer_is_there_ends_without_a_traceback(monkeypatch, capsys):
    class Interrupted(types.ModuleType):
        def __getattr__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "redshift_secrets.cli.group", Interrupted("group"))
    assert run(capsys, "list") == (130, "", "")


def test_an_example_of_several_lines_keeps_them(monkeypatch, capsys):
    monkeypatch.setattr(
        site, "configured_settings", lambda: (_ for _ in ()).throw(site.NotConfiguredError("add\n\n    [secrets]"))
    )
    assert run(capsys, "show", "analytics") == (2, "", "redshift-secrets: add\n\n    [secrets]\n")
