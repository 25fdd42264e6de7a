"""The settings of the contract with their defaults, and what is said of others."""

from __future__ import annotations

import base64

from redshift_secrets.settings import Cache

ROLE = "arn:aws:iam::123456789012:role/airflow"
KEY = base64.urlsafe_b64encode(b"k" * 32).decode()
DEFAULTS = {
    "tag_prefix": "airflow:",
    "regions": (),
    "accounts": (),
    "warehouses": ("clusters", "workgroups"),
    "profile_name": None,
    "region_name": None,
    "role_arn": None,
    "external_id": None,
    "assume_role_kwargs": {},
    "verify": None,
    "endpoint_url": None,
    "config": None,
    "connections_lookup_pattern": None,
    "managed_conn_ids": None,
    "required_tags": {},
    "allowed_accounts": (),
    "on_conflict": "refuse",
    "auth": "auto",
    "db_user": None,
    "database": None,
    "db_groups": (),
    "db_roles": (),
    "auto_create": False,
    "duration_seconds": 3600,
    "conn_type": "redshift",
    "extra": {},
    "sslmode": "verify-full",
    "sslrootcert": None,
    "hosts": {},
    "allow_admin_secret": False,
    "min_validity_seconds": 300,
    "catalog_ttl_seconds": 300,
    "catalog_max_stale_seconds": 86400,
    "aws_timeout_seconds": 10,
    "cache": Cache(),
    "audit": None,
    "fallback": (),
}
"""docs/contract.md, "Settings", with the defaults from its other headings."""


NEEDS = {"external_id": {"role_arn": ROLE}, "assume_role_kwargs": {"role_arn": ROLE}}
