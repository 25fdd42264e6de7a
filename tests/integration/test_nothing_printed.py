"""Tasks print their passwords in every form; what can be read of them afterwards, where Airflow writes it.

The table of `docs/security.md` is made of what these tests find in Airflow 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from redshift_secrets.local.stand_in import StandIn
from tests.integration.printing import NEVER_REGISTERED, marked, readable
from tests.integration.site import (
    RENDERED_FIELDS,
    WORKERS_ASK_THE_SERVER,
    airflow_site,
    aws_rights,
    from_airflow_3,
    rows_of_tables,
)
from tests.support.airflow_parts import backend_environment
from tests.support.airflow_site import AirflowSite, airflow_version
from tests.support.tables import Table

pytestmark = [pytest.mark.airflow, from_airflow_3]

DAGS = Path(__file__).parent / "dags_that_print"
KEY = "cGxhbnRlZC1rZXktcGxhbnRlZC1rZXktcGxhbnRlZC0="
SIDES = ("worker", "server")
RENEWS_BY_ITSELF = airflow_version() >= (3, 2)


@pytest.fixture(scope="module", params=SIDES)
def side(request: pytest.FixtureRequest) -> str:
    """Who resolves connections: the worker itself, or the API server for a worker with `ServerSideBackend`."""
    if request.param == "server" and request.config.getoption("--attempts"):
        pytest.skip("one Airflow is enough for `make security`")
    return str(request.param)


@pytest.fixture(scope="module")
def airflow(stand_in: StandIn, side: str) -> Iterator[AirflowSite]:
    settings = backend_environment(catalog_ttl_seconds=3600, cache={"key": KEY})
    shared = {**settings, **WORKERS_ASK_THE_SERVER} if side == "server" else settings
    with airflow_site(stand_in, DAGS, **shared) as site:
        site.start("dag-processor")
        site.start("api-server", changes=aws_rights(stand_in, "server") if side == "server" else None)
        site.start("scheduler", changes=None if side == "server" else aws_rights(stand_in, "worker"))
        site.start("triggerer", changes=aws_rights(stand_in, "triggerer"))
        site.wait_until_ready()
        yield site


@pytest.fixture(scope="module")
def run_id(airflow: AirflowSite, side: str) -> str:
    run_id = airflow.trigger("printing", {"renews": side == "worker" and RENEWS_BY_ITSELF})
    assert airflow.wait_for_run("printing", run_id) == "failed"  # one task is meant to
    states = {task.task_id: state for task, state in airflow.states("printing", run_id).items()}
    assert states == {"prints": "success", "raises": "failed", "rendered": "success", "defers": "success"}
    return run_id


def passwords(stand_in: StandIn) -> list[str]:
    return [token.password for token in stand_in.tokens.minted()]


def readable_forms(printed: Mapping[str, str], prefix: str, stand_in: StandIn) -> list[str]:
    """Return the marks that begin with `prefix` between which a password can be read, and prove that one would be found."""
    here = {name: text for name, text in printed.items() if name.startswith(prefix)}
    assert here, f"nothing was printed under {prefix}"
    assert readable(f"a {passwords(stand_in)[0]} b", passwords(stand_in))
    return sorted(name for name, text in here.items() if readable(text, passwords(stand_in)))


GROUPS = {
    "as it is": ("raw", "JSON", "repr"),
    "in a URI": ("get_uri", "quote", "quote plus", "SQLAlchemy"),
    "in base64": ("base64", "base64 of user and password", "base64 of the URI"),
}
TABLE = Table("security.md", "masked", ("where it is printed", *GROUPS))


def check_row(where: str, leaks: Iterable[str], write: bool) -> None:
    """Compare what can be read at a place with the table of the documentation, or record it there."""
    found = [name.partition(" ")[2] for name in leaks]
    cells = ["readable" if any(form in found for form in forms) else "masked" for forms in GROUPS.values()]
    if write:
        TABLE.found((where, *cells))
    else:
        assert TABLE.shown().get(where) == (where, *cells), "docs/security.md differs: run `make docs`"


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Callable[[str, Iterable[str]], None]:
    """Checks a row of the table, which is that of the newest Airflow."""
    write = request.config.getoption("--write-tables")
    return lambda where, leaks: check_row(where, leaks, write) if airflow_version() >= (3, 3) else None


LOOKED_UP_BY = {"worker": "`RedshiftSecretsBackend` in the task", "server": "`ServerSideBackend` in the task"}


@pytest.mark.attempt("print a password, a URI with it or its base64 in a task")
def test_a_task_prints_nothing_of_its_first_or_renewed_password(
    airflow: AirflowSite, run_id: str, stand_in: StandIn, side: str, row: Any
) -> None:
    printed = marked(airflow.log("printing", run_id, "prints"))
    for which in ("first", "renewed") if side == "worker" and RENEWS_BY_ITSELF else ("first",):
        for way in ("print", "logging", "thread", "exception"):
            assert printed[f"{which} {way} raw"] == "***"
            assert readable_forms(printed, f"{which} {way}", stand_in) == []
        assert printed[f"{which} print not registered"] == NEVER_REGISTERED
        row(f"log of a task, {which} password, {LOOKED_UP_BY[side]}", readable_forms(printed, which, stand_in))


@pytest.mark.attempt("print a password, a URI with it or its base64 in a task")
def test_an_exception_of_a_task_shows_nothing_of_its_password(
    airflow: AirflowSite, run_id: str, stand_in: StandIn, side: str, row: Any
) -> None:
    printed = marked(airflow.log("printing", run_id, "raises"))
    assert len(printed) == 10
    leaks = readable_forms(printed, "raised", stand_in)
    assert leaks == []
    row(f"error of a task, {LOOKED_UP_BY[side]}", leaks)


@pytest.mark.attempt("print a password, a URI with it or its base64 in a task")
@pytest.mark.skipif(
    airflow_version() < (3, 1), reason="Airflow 3.0 does not mask what a task renders in its own process"
)
def test_rendered_templates_have_nothing_of_a_password(
    airflow: AirflowSite, run_id: str, stand_in: StandIn, side: str, row: Any
) -> None:
    printed = marked(rows_of_tables(airflow, *RENDERED_FIELDS).decode())
    assert printed["rendered raw"] == "***"
    assert len(printed) == 4
    leaks = readable_forms(printed, "rendered", stand_in)
    assert leaks == []
    row(f"rendered templates in the metadata database, {LOOKED_UP_BY[side]}", leaks)


def test_what_airflow_leaves_readable_is_in_the_table(
    airflow: AirflowSite, run_id: str, stand_in: StandIn, side: str, row: Any
) -> None:
    trigger = marked(airflow.log("printing", run_id, "defers"))
    row(
        f"log of a trigger, {LOOKED_UP_BY[side].replace('task', 'triggerer')}",
        readable_forms(trigger, "trigger", stand_in),
    )
    if side == "worker" and RENEWS_BY_ITSELF:
        log = airflow.log("printing", run_id, "prints")
        row(
            "log of a task, printed by a process that it forks and that looks up itself",
            readable_forms(marked(log), "forked", stand_in),
        )
        assert log.count("could not be told what to mask") == 1


@pytest.mark.skipif(airflow_version() < (3, 3), reason="with the packages of today, `airflow dags test` of 3.2 fails")
def test_what_dags_test_leaves_readable_is_in_the_table(
    airflow: AirflowSite, run_id: str, stand_in: StandIn, side: str, row: Any
) -> None:
    if side == "server":
        pytest.skip("a worker without AWS rights cannot run it")
    done = airflow.completed("airflow", "dags", "test", "printing", changes=aws_rights(stand_in, "worker"))
    printed = marked(done.stdout + done.stderr)
    leaks = {way: readable_forms(printed, f"first {way}", stand_in) for way in ("logging", "print")}
    for way, names in leaks.items():
        row(f"`airflow dags test`, {way}", [name.replace(f" {way}", "") for name in names])


def test_no_password_and_no_key_is_in_any_other_file_of_airflow(
    airflow: AirflowSite, run_id: str, stand_in: StandIn, side: str, row: Any
) -> None:
    """It finds the text that is printed to be found."""
    copied = marked((airflow.home / "scheduler.log").read_text(errors="replace"))
    if any(name.startswith("first") for name in copied):  # older releases make none
        row(
            "LocalExecutor's copy on its standard output",
            [name.partition(" ")[2] for name in readable_forms(copied, "first", stand_in)],
        )
    found = []
    for path in airflow.home.rglob("*"):
        if path.is_file() and path.name != "scheduler.log" and ".trigger." not in path.name:
            lines = [line for line in path.read_text(errors="replace").splitlines() if "<<forked " not in line]
            secrets = (*passwords(stand_in), KEY, NEVER_REGISTERED)
            found += [(path.name, secret) for secret in secrets for line in lines if secret in line]
    assert {secret for _, secret in found} == {NEVER_REGISTERED}, sorted({name for name, _ in found})
