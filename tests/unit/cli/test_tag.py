"""Which conn_ids the options of `tag` and `untag` name."""

from __future__ import annotations

import pytest
import typer

from redshift_secrets.cli.tag import named
from redshift_secrets.cli.untag import untag


def test_conn_ids_may_be_in_one_option_or_in_several():
    assert named(["a b", "c"]) == ["a", "b", "c"]
    assert named(None) == named([]) == []


@pytest.mark.parametrize("given", [[""], [" "], ["a", ""]])
def test_an_empty_option_does_not_mean_all(given, capsys):
    with pytest.raises(typer.Exit) as caught:
        untag("prod", given, yes=True)
    assert caught.value.exit_code == 2
    assert "--conn-id is empty" in capsys.readouterr().err
