"""A host of the site's own for a warehouse."""

from __future__ import annotations

from typing import Any

import pytest

from redshift_secrets.lookup.catalog import listing_from_rows, listing_to_rows
from redshift_secrets.lookup.listing import build_listing
from redshift_secrets.lookup.spec import build_spec
from redshift_secrets.model import ConnectionSpec, VpcEndpoint, Warehouse
from redshift_secrets.settings import Settings
from tests.support.fakes import cluster, workgroup

P = "airflow:"
TAGS = {P + "conn-id": "analytics"}


def build(hosts: dict[str, Any], warehouse: Warehouse, **settings: Any) -> ConnectionSpec:
    return build_spec(warehouse, "analytics", Settings.from_kwargs({"hosts": hosts, **settings}))


@pytest.mark.parametrize("warehouse", [cluster(tags=TAGS), workgroup("prod", tags=TAGS)], ids=lambda one: one.kind)
@pytest.mark.parametrize("by", ["identifier", "arn"])
def test_it_is_found_by_identifier_or_arn(warehouse: Warehouse, by: str) -> None:
    spec = build({getattr(warehouse, by): "nlb.corp:5440", "other": "elsewhere"}, warehouse)
    assert (spec.address, spec.errors) == (("nlb.corp", 5440), ())
    assert (spec.extra["sslmode"], spec.sources["endpoint"]) == ("verify-full", "setting hosts")


def test_the_arn_comes_first() -> None:
    warehouse = cluster(tags=TAGS)
    assert build({"prod": "by-name", warehouse.arn: "by-arn"}, warehouse).address == ("by-arn", 5439)


def test_the_port_is_the_warehouses_unless_there_is_one() -> None:
    assert build({"prod": "nlb.corp"}, cluster(tags=TAGS, port=5555)).address == ("nlb.corp", 5555)


def test_another_warehouse_keeps_its_own() -> None:
    warehouse = cluster("other", tags=TAGS)
    spec = build({"prod": {"host": "nlb.corp", "sslmode": "disable"}}, warehouse)
    assert (spec.address, spec.extra["sslmode"]) == ((warehouse.host, 5439), "verify-full")


def test_while_the_warehouse_has_no_endpoint_there_is_nothing_behind_it() -> None:
    assert build({"prod": "nlb.corp:5440"}, cluster(tags=TAGS, host=None, port=None)).address is None


@pytest.mark.parametrize(
    ("endpoint", "host"), [("default", "own.example"), ("custom-domain", "dwh.example"), ("vpc:bi", "bi.example")]
)
def test_a_tag_that_selects_an_endpoint_keeps_it(endpoint: str, host: str) -> None:
    tags = {**TAGS, P + "endpoint": endpoint}
    vpc = (VpcEndpoint("bi", "bi.example", 5439),)
    warehouse = cluster(tags=tags, host="own.example", custom_domain="dwh.example", vpc_endpoints=vpc)
    spec = build({"prod": {"host": "nlb.corp", "sslmode": "disable"}}, warehouse)
    assert (spec.address, spec.extra["sslmode"]) == ((host, 5439), "verify-full")


def test_its_own_sslmode_beats_the_setting_and_a_tag_only_tightens_it() -> None:
    hosts = {"prod": {"host": "nlb.corp", "sslmode": "verify-ca"}}
    spec = build(hosts, cluster(tags=TAGS))
    assert (spec.extra["sslmode"], spec.sources["extra.sslmode"]) == ("verify-ca", "setting hosts")
    assert build(hosts, cluster(tags={**TAGS, P + "extra.sslmode": "verify-full"})).extra["sslmode"] == "verify-full"
    (error,) = build(hosts, cluster(tags={**TAGS, P + "extra.sslmode": "require"})).errors
    assert "weaker than the setting hosts, sslmode = verify-ca" in error


@pytest.mark.parametrize(("conn_type", "warns"), [("redshift", True), ("postgres", False)])
def test_an_ipv6_address_is_not_for_redshift_connector(conn_type: str, warns: bool) -> None:
    spec = build({"prod": "[fd00::7]:5440"}, cluster(tags=TAGS), conn_type=conn_type)
    assert spec.address == ("fd00::7", 5440)
    assert any("cannot connect to the IPv6 address fd00::7" in each for each in spec.warnings) == warns


def test_it_survives_a_shared_tier() -> None:
    settings = Settings.from_kwargs({"hosts": {"prod": "nlb.corp:5440"}})
    listing = build_listing([cluster(tags=TAGS), cluster("other", tags=TAGS)], settings)
    assert listing_from_rows(listing_to_rows(listing)).specs == listing.specs
