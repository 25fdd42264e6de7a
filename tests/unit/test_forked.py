"""Processes that are forked from one with third-party libraries begin and end as others do."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import forked

ENVIRONMENT = {"ONLY": "this"}


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return forked.run([sys.executable, "-c", code, *arguments], ENVIRONMENT)


def test_libraries_are_there_and_airflow_and_this_package_are_not() -> None:
    loaded = set(run("import sys; print(*sys.modules)").stdout.split())
    assert {"boto3", "sqlalchemy", "typer"} <= loaded
    assert not {"airflow", "redshift_secrets"} & loaded


def test_environment_arguments_and_folder_are_its_own(tmp_path: Path) -> None:
    code = "import json, os, sys; print(json.dumps([dict(os.environ), os.popen('echo $ONLY').read(), sys.argv, os.getcwd()]))"
    done = forked.run([sys.executable, "-c", code, "word"], ENVIRONMENT, cwd=tmp_path)
    environment, of_a_child, arguments, folder = json.loads(done.stdout)
    assert (environment["ONLY"], of_a_child, arguments, folder) == ("this", "this\n", ["-c", "word"], str(tmp_path))
    assert not [name for name in environment if name.startswith(("AIRFLOW", "AWS"))]


def test_a_script_and_a_module_are_main(tmp_path: Path) -> None:
    (tmp_path / "site_module.py").write_text("import sys; print(__name__, sys.argv[1:])")
    environment = {"PYTHONPATH": str(tmp_path)}
    for program in ([str(tmp_path / "site_module.py")], [sys.executable, "-m", "site_module"]):
        assert forked.run([*program, "word"], environment).stdout == "__main__ ['word']\n"


@pytest.mark.parametrize(
    ("code", "ends_with", "output", "errors"),
    [
        ("print(1); raise SystemExit(7)", 7, "1\n", ""),
        ("import sys; sys.exit('words')", 1, "", "words\n"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, "", ""),
        ("import os, signal; signal.raise_signal(signal.SIGPIPE); print(1)", 0, "1\n", ""),
        ("import os; print(1, flush=True); os.execvp('sh', ['sh', '-c', 'echo 2 >&2; exit 3'])", 3, "1\n", "2\n"),
        ("print(input.__name__, open(0).read())", 0, "input \n", ""),
    ],
)
def test_how_it_ends(code: str, ends_with: int, output: str, errors: str) -> None:
    done = run(code)
    assert (done.returncode, done.stdout, done.stderr) == (ends_with, output, errors)


def test_an_exception_ends_it_after_its_threads_and_exit_handlers() -> None:
    code = "import atexit, threading; atexit.register(print, 2); threading.Timer(0.01, print, (1,)).start(); 1 / 0"
    done = run(code)
    assert (done.returncode, done.stdout) == (1, "1\n2\n")
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_one_that_hangs_is_killed() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        forked.run([sys.executable, "-c", "import signal; signal.pause()"], ENVIRONMENT, seconds=0.01)
