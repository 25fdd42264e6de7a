"""How `migrate` ends and what it says, for plans and comparisons that are given."""

from __future__ import annotations

import json

import pytest
import typer

from redshift_secrets.airflow.stored import Place
from redshift_secrets.cli import migrate
from redshift_secrets.cli.output import Output
from redshift_secrets.lookup.catalog import Unseen
from redshift_secrets.model import Scope
from redshift_secrets.operations.migrate import plan, reading
from redshift_secrets.operations.migrate.comparing import Comparison, Session
from redshift_secrets.operations.migrate.plan import Seen, make_plan
from redshift_secrets.operations.migrate.reading import Stored, StoredUnder
from redshift_secrets.settings import Settings
from tests.support.fakes import cluster, denied
from tests.unit.operations.migrate.stored import stored

TAGGED = cluster(tags={"airflow:conn-id": "analytics", "airflow:db-user": "etl"})
MALFORMED = cluster(tags={**TAGGED.tags, "airflow:duration": "fast"})
SESSION = Session("etl", "dev", ("loaders",), None)
EQUAL = Comparison("analytics", True, SESSION, SESSION, ())
DIFFERENT = Comparison("analytics", False, SESSION, SESSION, ("user etl is stored, and bi by tags",))
NOT_COMPARED = Comparison("analytics", None, "refused", SESSION, ("what is stored does not log in: refused",))


@pytest.fixture
def at(monkeypatch):
    """Give a command its site and what logins say."""

    def give(*connections, warehouses=(TAGGED,), comparison=EQUAL, failures=(), unseen=(), counts=None, **settings):
        made = Settings.from_kwargs({"regions": ["eu-west-1"], **settings})
        read = Stored(
            tuple(StoredUnder(each.conn_id, (each,)) for each in connections),
            {"the metadata database": len(connections)} if counts is None else counts,
            failures,
        )
        seen = Seen(tuple(warehouses), unseen, "arn:aws:iam::123456789012:user/me")
        site = migrate._Site(made, read, seen, make_plan(made, read, seen))
        monkeypatch.setattr(migrate, "_site", lambda _places, _conn_ids: site)
        monkeypatch.setattr(migrate, "_compared", lambda _site, served, _places: iter([comparison] * len(served)))

    return give


def ended(capsys, command, **arguments):
    """Return the exit code, and what was printed to standard output and error."""
    with pytest.raises(typer.Exit) as end:
        command(**arguments)
    return end.value.exit_code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("comparison", "code", "shown"),
    [
        (EQUAL, 0, "analytics: the same, user etl, database dev, groups loaders, roles not known\n"),
        (DIFFERENT, 1, "analytics: differs, user etl is stored, and bi by tags\n"),
        (NOT_COMPARED, 1, "analytics: not compared, what is stored does not log in: refused\n"),
    ],
)
def test_check(capsys, at, comparison, code, shown):
    at(stored(), comparison=comparison)
    assert ended(capsys, migrate.check) == (code, shown, "")
    found = ended(capsys, migrate.check, output=Output.json)
    assert json.loads(found[1])[0]["conn_id"] == "analytics"


@pytest.fixture
def places(monkeypatch):
    """Have `migrate` read these connections."""
    read = []
    monkeypatch.setattr(migrate, "site_settings", lambda: Settings.from_kwargs({"regions": ["eu-west-1"]}))
    monkeypatch.setattr(plan, "see_everything", lambda _settings: Seen((), (), "me"))

    def read_stored(_settings, _sources, _environ, conn_ids=()):
        wanted = [each for each in read if not conn_ids or each.conn_id in conn_ids]
        return Stored(tuple(StoredUnder(each.conn_id, (each,)) for each in wanted), {"the environment": 0}, ())

    monkeypatch.setattr(reading, "read_stored", read_stored)
    return read


def test_a_misspelt_conn_id_comes_with_the_nearest_one(capsys, places):
    places += [stored("analytics"), stored("bi")]
    code, shown, error = ended(capsys, migrate.plan, conn_id=["analytcs", "bi"])
    assert (code, shown) == (1, "")
    assert "no connection is stored under 'analytcs' (did you mean 'analytics'?); looked in: the environment" in error


def test_a_misspelt_place_is_a_mistake_in_the_command(capsys, places):
    code, _, error = ended(capsys, migrate.plan, places=["databse"])
    assert (code, "did you mean 'database'?" in error) == (2, True)


def test_one_reason_is_said_once_for_all_that_was_not_listed(capsys, at):
    at(
        stored(),
        unseen=tuple(Unseen(Scope("cluster", region, None), denied()) for region in ("us-east-1", "us-west-2")),
    )
    code, _, error = ended(capsys, migrate.plan)
    assert (code, error.count("not listed: ")) == (4, 1)
    assert "not listed: 2 listings (clusters in us-east-1, clusters in us-west-2) for one reason" in error


def test_check_of_what_is_refused_or_not_claimed(capsys, at):
    at(stored(), warehouses=(MALFORMED,))
    code, shown, error = ended(capsys, migrate.check)
    assert (code, shown) == (1, "")
    assert error.startswith("analytics: refused, tag airflow:duration must be a whole number")
    at(stored("bi"))
    assert ended(capsys, migrate.check)[0] == 0
    code, _, error = ended(capsys, migrate.check, conn_id=["bi"])
    assert (code, error) == (1, "redshift-secrets: no tag claims bi yet: see `redshift-secrets migrate plan`\n")


def test_finish(capsys, at):
    at(stored(), stored("bi"))
    code, shown, _ = ended(capsys, migrate.finish)
    assert (code, shown.splitlines()) == (
        0,
        [
            "# analytics: served from prod; login: the same",
            "airflow connections delete analytics",
            "# way back: airflow connections import of an export made before; redshift-secrets untag"
            f" {TAGGED.arn} --conn-id analytics",
            '# in backend_kwargs, for what has moved so far: "managed_conn_ids": "^(analytics)$"',
        ],
    )
    at(stored(place=Place("environment", "AIRFLOW_CONN_ANALYTICS")), comparison=DIFFERENT)
    lines = ended(capsys, migrate.finish)[1].splitlines()
    assert lines[:3] == [
        "# analytics: served from prod; login: differs",
        "# user etl is stored, and bi by tags",
        "# differs, look at it first: unset AIRFLOW_CONN_ANALYTICS  # and where it is set for Airflow's processes",
    ]
    at(stored("bi"))
    assert "no stored connection can go yet" in ended(capsys, migrate.finish)[2]


def test_plan_ends_with_4_where_something_could_not_be_read_and_with_2_where_nothing_could(capsys, at):
    at(stored())
    assert ended(capsys, migrate.plan)[0] == 0
    at(stored(), failures=("the metadata database is away",))
    for output in (Output.table, Output.json, Output.yaml, Output.plain):
        code, _, error = ended(capsys, migrate.plan, output=output)
        assert (code, error.endswith("not read: the metadata database is away; --from names the places to read\n")) == (
            4,
            True,
        )
    at(stored(), unseen=(Unseen(Scope("cluster", "us-east-1", None), denied()),))
    code, _, error = ended(capsys, migrate.plan)
    assert (code, "not listed: clusters in us-east-1: redshift:DescribeClusters" in error) == (4, True)
    at(counts={}, failures=("away",))
    assert ended(capsys, migrate.plan)[0] == 2


def test_where_nothing_was_read_there_are_no_empty_lines(capsys, at):
    at(counts={}, failures=("away",))
    shown = ended(capsys, migrate.plan)[1]
    assert shown.startswith("read: nothing\n")
    assert "\n\n" not in shown


def test_code_for_another_tool_is_alone_on_standard_output(capsys, at):
    at(stored("bi"), failures=("away",))
    code, shown, error = ended(capsys, migrate.plan, form=migrate.Form.terraform)
    assert shown.startswith("# cluster prod")
    assert shown.endswith('"managed_conn_ids": "^(analytics|bi)$"\n')
    assert (code, error) == (4, "not read: away; --from names the places to read\n")
