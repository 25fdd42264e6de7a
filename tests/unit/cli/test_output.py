"""Tables for terminals of any width, and documents for programs."""

from __future__ import annotations

import io
import json
import os

import pytest
import yaml

from redshift_secrets.cli import output
from redshift_secrets.cli.output import Output, paint, print_document, print_rows, text

ROWS = [
    {"name": "analytics", "host": "prod.abc.eu-west-1.redshift.amazonaws.com", "region": "eu-west-1", "what": "one two three"},
    {"name": "bi", "host": "other.abc.eu-west-1.redshift.amazonaws.com", "region": "eu-west-1", "what": "four"},
]  # fmt: skip
COLUMNS = ("name", "host", "region", "what")


@pytest.fixture
def table(monkeypatch, capsys):
    def printed(width, rows=ROWS, form=Output.table, **options):
        monkeypatch.setattr(output, "_width", lambda _stream: width)
        print_rows(rows, COLUMNS, form, **options)
        return capsys.readouterr().out.splitlines()

    return printed


def test_where_there_is_room_all_columns_stay_but_empty_ones(table):
    assert table(79)[0].split() == list(COLUMNS)
    assert table(79, [{**row, "what": ""} for row in ROWS])[0].split() == ["name", "host", "region"]


def test_otherwise_columns_in_which_all_rows_are_the_same_become_one_line(table):
    assert table(78) == [
        "name       host                                        what",
        "analytics  prod.abc.eu-west-1.redshift.amazonaws.com   one two three",
        "bi         other.abc.eu-west-1.redshift.amazonaws.com  four",
        "the same for all: region eu-west-1",
    ]


def test_a_single_row_keeps_all_its_columns(table):
    assert table(200, ROWS[:1])[0].split() == list(COLUMNS)


def test_what_does_not_fit_wraps_between_words(table):
    assert table(61)[:4] == [
        "name       host                                        what",
        "analytics  prod.abc.eu-west-1.redshift.amazonaws.com   one",
        "                                                       two",
        "                                                       three",
    ]


def test_a_column_without_room_is_left_out_and_named(table):
    lines = table(40, first=("name", "what", "region", "host"))
    assert lines[:2] == ["name       what", "analytics  one two three"]
    assert lines[-1] == "with -o wide also: host"


def test_a_name_that_would_cost_other_columns_stands_on_a_line_of_its_own(table):
    long = {**ROWS[0], "name": "a_name_that_somebody_typed_in_for_the_quarterly_reporting_of_the_finance_department"}
    assert table(80, [long, {**ROWS[1], "host": "h"}]) == [
        "name  host                                       what",
        long["name"],
        "      prod.abc.eu-west-1.redshift.amazonaws.com  one two three",
        "bi    h                                          four",
        "the same for all: region eu-west-1",
    ]
    assert table(200, [long])[1].startswith(f"{long['name']}  prod.")


def test_wide_leaves_nothing_out(table):
    assert table(60, form=Output.wide)[:3] == [
        "name       host",
        "analytics  prod.abc.eu-west-1.redshift.amazonaws.com",
        "    region eu-west-1, what one two three",
    ]


def test_letters_that_take_two_columns_and_those_that_take_none(table):
    rows = [
        {**ROWS[0], "name": "\u65e5\u672c", "what": "\u8868 " * 20},
        {**ROWS[1], "name": "cafe\u0301", "host": "h", "what": "x"},
    ]
    assert table(78, rows) == [
        "name  host                                       what",
        "\u65e5\u672c  prod.abc.eu-west-1.redshift.amazonaws.com  " + " ".join(10 * "\u8868"),
        49 * " " + " ".join(10 * "\u8868"),
        "cafe\u0301  h                                          x",
        "the same for all: region eu-west-1",
    ]


@pytest.mark.parametrize("width", [1, 5, 20, 79, 80, 81, 200])
@pytest.mark.parametrize("form", [Output.table, Output.wide])
def test_no_word_is_ever_broken(table, width, form):
    words = {word for line in table(width, form=form) for word in line.replace(",", "").split()}
    known = {word for row in ROWS for value in row.values() for word in value.split()} | set(COLUMNS)
    assert words - known <= set("the same for all: with -o wide also:".split())


def test_nothing_is_broken_where_there_is_no_terminal(capsys):
    long = {"name": "a " * 500, "host": "b " * 500, "region": "c", "what": "d"}
    print_rows([long], COLUMNS, Output.table)
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_no_rows_are_no_table_but_an_empty_document(capsys):
    print_rows([], COLUMNS, Output.table)
    print_rows([], COLUMNS, Output.json)
    assert capsys.readouterr().out == "[]\n"


def test_documents_have_types(capsys):
    document = [{"port": 5439, "auto_create": False, "team": None, "groups": ("a", "b")}]
    print_document(document, Output.json)
    assert json.loads(capsys.readouterr().out) == [{**document[0], "groups": ["a", "b"]}]
    print_document(document, Output.yaml)
    assert yaml.safe_load(capsys.readouterr().out) == [{**document[0], "groups": ["a", "b"]}]


@pytest.mark.parametrize(
    ("value", "shown"), [(None, ""), (False, "false"), (("a", "b"), "a; b"), (5, "5"), ("a\x1b[2J\nb", "a [2J b")]
)
def test_values_are_one_line_without_control_characters(value, shown):
    assert text(value) == shown


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "painted"),
    [
        (Terminal(), {"TERM": "xterm"}, "\x1b[31mx\x1b[0m"),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, "x"),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": ""}, "\x1b[31mx\x1b[0m"),
        (Terminal(), {"TERM": "dumb"}, "x"),
        (io.StringIO(), {"TERM": "xterm"}, "x"),
    ],
)
def test_colours_are_for_terminals_that_want_them(monkeypatch, stream, environ, painted):
    monkeypatch.setattr(os, "environ", environ)
    assert paint("x", "red", stream) == painted
