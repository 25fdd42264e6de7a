"""Connection spec and credential in, the fields of an Airflow Connection out. Pure."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from redshift_secrets.lookup.reasons import refusal
from redshift_secrets.model import ConnectionFields, ConnectionSpec, Credential


def with_credential(
    spec: ConnectionSpec, address: tuple[str, int], credential: Credential, valid_until: float | None = None
) -> ConnectionFields:
    """Return a connection that logs in with a minted credential, which is returned until `valid_until`.

    `extra` has only what tags and settings asked for: each client passes it to its driver unchanged, and a key that one
    driver takes breaks another.
    """
    return ConnectionFields(
        conn_id=spec.conn_id,
        conn_type=spec.conn_type,
        host=address[0],
        port=address[1],
        schema=spec.database,
        login=credential.user,
        password=credential.password,
        extra=spec.extra,
        description=(
            f"{spec.warehouse}: user {credential.user}, minted by {credential.minted_by} at"
            f" {_utc(credential.minted_at)}, expires at {_utc(credential.expires_at)}"
        ),
        valid_until=valid_until,
    )


def for_connector(spec: ConnectionSpec, address: tuple[str, int], default_region: str | None) -> ConnectionFields:
    """Return the connection that Airflow users write by hand: no password, the driver mints for itself.

    Raises `CannotServeError` for what RedshiftSQLHook would ask another region for: it takes that of its own AWS connection, by default
    the `default_region` of boto3 here, and not the one in `extra`.
    https://airflow.apache.org/docs/apache-airflow-providers-amazon/stable/connections/redshift.html
    """
    warehouse = spec.warehouse
    if default_region not in (None, warehouse.region):
        raise refusal(
            spec,
            f"{spec.sources['auth']} = connector cannot work: RedshiftSQLHook mints in the default region of this process,"
            f" {default_region}, and {warehouse} is in {warehouse.region}. Use db-user or iam, or set AWS_DEFAULT_REGION",
        )
    iam: dict[str, Any] = {"iam": True, "region": warehouse.region, "database": spec.database}
    if warehouse.kind == "cluster":
        iam |= {"cluster_identifier": warehouse.identifier, "db_user": spec.db_user, "auto_create": spec.auto_create}
        if spec.db_groups:
            iam["db_groups"] = list(spec.db_groups)
    else:
        iam |= {
            "is_serverless": True,
            "serverless_work_group": warehouse.identifier,
            "serverless_acct_id": warehouse.account,
        }
    return ConnectionFields(
        conn_id=spec.conn_id,
        conn_type=spec.conn_type,
        host=address[0],
        port=address[1],
        schema=spec.database,
        login=spec.db_user,
        password=None,
        extra={**iam, **spec.extra},
        description=f"{warehouse}: the driver mints for itself (auth = connector)",
    )


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
