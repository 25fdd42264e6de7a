"""What processes store for each other: whoever changes it gives the places in the stores another number."""

from __future__ import annotations

import pytest

from redshift_secrets.cache import tiers
from redshift_secrets.model import ConnectionSpec, Credential, VpcEndpoint, Warehouse

FORMAT = 2
FIELDS = {
    ConnectionSpec: "conn_id warehouse auth endpoint database db_user db_groups auto_create duration conn_type team extra own_address db_roles session_role_arn per_dag sources errors warnings",
    Warehouse: "kind identifier arn account region status created_at tags database host port custom_domain vpc_endpoints admin_secret_arn role_arn unknown",
    VpcEndpoint: "name host port",
    Credential: "user password minted_at expires_at minted_by request_id",
}


@pytest.mark.parametrize("stored", FIELDS, ids=lambda stored: stored.__name__)
def test_the_number_of_the_format_stands_for_these_fields(stored):
    """Where this fails, raise `cache.tiers._FORMAT` and write both down here: hosts with the version before would otherwise
    read, and overwrite, what they do not understand."""
    assert (" ".join(stored.__struct_fields__), tiers._FORMAT) == (FIELDS[stored], FORMAT)


def test_another_number_has_other_places(monkeypatch):
    here = tiers.Tier(None, "caller").place("k")
    monkeypatch.setattr(tiers, "_FORMAT", FORMAT + 1)
    assert tiers.Tier(None, "caller").place("k") != here
