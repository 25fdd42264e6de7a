"""What tags, AWS and servers say comes out on one line of bounded length, wherever it is logged or shown."""

from __future__ import annotations

import logging

import pytest
from msgspec.structs import replace

from redshift_secrets import errors
from redshift_secrets.cli import connect as connect_command
from redshift_secrets.cli.output import Output, print_rows
from redshift_secrets.errors import AwsError, CannotServeError, RedshiftSecretsError, error_from_json, error_to_json
from redshift_secrets.lookup.listing import build_listing
from redshift_secrets.operations.connect import Step
from redshift_secrets.settings import Settings
from tests.support.fakes import cluster
from tests.support.helpers import Site

pytestmark = pytest.mark.attempt("forge lines of a log or terminal with words from outside")

HOSTILE = "a\nb\r\x1b[31mc\u2028d\u202ee\x00\x9bf" + "x" * 10_000
"""A new line, an ANSI escape of one byte and of two, a line separator (which a tag may have), a change of direction."""

KINDS = {
    "AwsError": (HOSTILE,) * 6,
    "CannotServeError": (HOSTILE,),
    "CatalogUnavailableError": ([HOSTILE, HOSTILE],),
    "DeadlineError": (HOSTILE, 10.0),
    "ExhaustedError": (HOSTILE,),
    "PerDagCredentialsError": (HOSTILE,),
    "RefreshNotStartedError": (HOSTILE, HOSTILE),
    "UnexpectedError": (HOSTILE,),
}


def is_one_line(text, limit=4000):
    return text.isprintable() and len(text) <= limit


@pytest.mark.parametrize("name", KINDS)
def test_an_error_and_one_that_comes_out_of_a_store(name):
    error = getattr(errors, name)(*KINDS[name])
    assert is_one_line(str(error))
    assert is_one_line(str(error_from_json(error_to_json(error))))
    assert is_one_line(str(CannotServeError(f"connection 'x': {error}")))


def test_every_error_that_takes_words_is_among_them():
    takes_none = {"SettingsError", "CallerChangedError", "TooManyWaitingError"}
    known = {kind.__name__ for kind in RedshiftSecretsError.__subclasses__() if kind.__module__ == errors.__name__}
    assert known - takes_none == set(KINDS)


def test_each_problem_of_the_settings_is_one_line():
    lines = str(errors.SettingsError([HOSTILE, "two"])).splitlines()
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    "tag", ["airflow:duration", "airflow:auth", "airflow:endpoint", "airflow:x\u2028y", "airflow:team"]
)
def test_what_is_wrong_with_a_tag(tag):
    tags = {"airflow:conn-id": "dwh", tag: HOSTILE, "airflow:db-user/nobody\u2028": HOSTILE}
    listing = build_listing([cluster(tags=tags)], Settings.from_kwargs({}))
    (spec,) = listing.specs["dwh"]
    assert spec.errors or spec.warnings
    assert all(map(is_one_line, [*spec.errors, *spec.warnings]))


def test_what_is_left_out_of_a_listing():
    warehouses = [cluster(tags={"airflow:conn-id": f"a\u2028{HOSTILE}"}), cluster(HOSTILE, {"airflow:conn-id": "x"})]
    listing = build_listing(warehouses, Settings.from_kwargs({"required_tags": {"team": "x"}}))
    assert listing.ignored
    assert all(map(is_one_line, listing.ignored))
    problems = build_listing(warehouses, Settings.from_kwargs({})).problems
    assert problems
    assert all(map(is_one_line, problems))


def test_everything_that_lookups_log(clock, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    tags = {"airflow:conn-id": "dwh", "airflow:unknown": HOSTILE}
    site = Site(clock, cluster(HOSTILE, tags, arn="arn"))
    mint = site.aws.mint
    monkeypatch.setattr(site.aws, "mint", lambda request: replace(mint(request), user=HOSTILE))
    assert site.broker.connection("dwh").login == HOSTILE
    clock.pass_(3600)
    site.aws.mint_error = AwsError("redshift:GetClusterCredentials", HOSTILE, "me", "Throttling", HOSTILE, HOSTILE)
    with pytest.raises(CannotServeError) as refused:
        site.broker.connection("dwh")
    assert is_one_line(str(refused.value))
    assert caplog.records
    assert all(is_one_line(record.getMessage(), 9000) for record in caplog.records)


@pytest.mark.parametrize("output", [Output.table, Output.plain, Output.json, Output.yaml])
def test_a_command_prints_no_control_characters(output, capsys):
    print_rows([{"a": HOSTILE, "b": "[bold]x[/bold]"}], ["a", "b"], output)
    printed = capsys.readouterr().out
    assert all(line.isprintable() for line in printed.split("\n"))
    assert "[bold]x[/bold]" in printed


def test_a_step_of_a_test_prints_no_control_characters(capsys):
    connect_command._print_step(Step("mint", 0.1, HOSTILE))
    for failure in (None, HOSTILE):
        result = {
            "conn_id": HOSTILE,
            "connected": failure is None,
            "failure": failure,
            "database": HOSTILE,
            "user": HOSTILE,
        }
        connect_command._print_result({**result, "steps": []}, with_name=True)
    assert all(line.isprintable() for line in capsys.readouterr().out.split("\n"))
