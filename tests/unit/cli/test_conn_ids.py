"""Which conn_ids a shell offers: those of the last whole listing."""

from __future__ import annotations

import msgspec
import pytest

from redshift_secrets.cli import conn_ids, site
from redshift_secrets.cli.conn_ids import offered, view_all
from redshift_secrets.operations import inspect


@pytest.fixture
def seen(monkeypatch, tmp_path):
    """Return what sees these conn_ids, with the options of a command."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setattr(conn_ids, "options", site.SiteOptions())

    def see(*names, unseen=(), **options):
        for name, value in options.items():
            setattr(conn_ids.options, name, value)
        row = msgspec.defstruct("Row", ["conn_id"])
        found = msgspec.defstruct("Found", ["rows", "unseen"])([row(name) for name in names], unseen)
        monkeypatch.setattr(inspect, "view_site", lambda _broker: found)
        assert view_all(None) is found

    return see


def test_nothing_is_offered_before_anything_is_seen(seen):
    assert offered("") == []


def test_each_conn_id_once_as_the_last_listing_has_them(seen, tmp_path):
    seen("old", "shared")
    seen("analytics", "shared", "shared", "bi")
    assert offered("") == ["analytics", "shared", "bi"]
    assert offered("sh") == ["shared"]
    assert [path.name for path in tmp_path.iterdir()] == [".redshift-secrets-conn-ids"]


@pytest.mark.parametrize("partial", [{"unseen": ("eu-west-3: denied",)}, {"region": "eu-west-3"}, {"profile": "dev"}])
def test_a_part_of_the_site_is_not_taken_for_all_of_it(seen, partial):
    seen("analytics", "bi")
    seen("other", **partial)
    assert offered("") == ["analytics", "bi"]


def test_where_nothing_can_be_written_commands_work_all_the_same(seen, monkeypatch, tmp_path):
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "missing"))
    seen("analytics")
    assert offered("") == []


def test_what_cannot_replace_the_file_is_removed(seen, monkeypatch, tmp_path):
    (tmp_path / ".redshift-secrets-conn-ids").mkdir()
    seen("analytics")
    assert [path.name for path in tmp_path.iterdir()] == [".redshift-secrets-conn-ids"]
