"""Every way in which a managed connection cannot be served: its warehouse, and the fault of AWS."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from redshift_secrets.local.aws.simulated import SimulatedAws
from redshift_secrets.local.config import DEFAULT_ACCOUNT

LIST = "redshift:DescribeClusters"
MINT = "redshift:GetClusterCredentials"
NO_ROLE = f"arn:aws:iam::{DEFAULT_ACCOUNT}:role/nobody-may-assume-it"


class Way(NamedTuple):
    """One way to fail. `conn_id` is the connection that fails like this, `dag_id` the DAG whose task looks it up."""

    conn_id: str
    title: str
    dag_id: str = "refused"


# A fault is for a region, so each of these has its own.
FAULTY_REGIONS = {
    "dw-denied": ("us-east-1", MINT, "access_denied"),
    "dw-throttled": ("us-east-2", MINT, "throttle"),
    "dw-expired": ("us-west-1", MINT, "expired_token"),
    "dw-skewed": ("us-west-2", MINT, "clock_skew"),
    "dw-broken": ("eu-north-1", MINT, "server_error"),
    "dw-silent": ("eu-west-3", MINT, "black_hole"),
    "dw-unlisted": ("eu-central-1", LIST, "access_denied"),
}
STATES = {"dw-paused": "paused", "dw-resuming": "resuming", "dw-deleting": "deleting", "dw-creating": "creating"}

WAYS = (
    Way("dw-twice", "two warehouses claim the conn_id"),
    Way("dw-mistyped", "a tag has a value that cannot be read"),
    Way("dw-paused", "the warehouse is paused"),
    Way("dw-resuming", "it is resuming"),
    Way("dw-deleting", "it is being deleted"),
    Way("dw-creating", "it has no endpoint yet"),
    Way("dw-gone", "it was deleted after it was listed"),
    Way("dw-denied", "AWS denies the credential"),
    Way("dw-throttled", "AWS throttles, for longer than a lookup waits"),
    Way("dw-broken", "AWS returns an internal error"),
    Way("dw-silent", "AWS does not answer"),
    Way("dw-expired", "the session of the AWS identity has expired"),
    Way("dw-skewed", "the clock is wrong"),
    Way("dw-nowhere", "no warehouse has the conn_id in its tag", "nowhere"),
    Way("dw-unlisted", "AWS denies the listing", "unlisted"),
    Way("dw-nobody", "there are no AWS credentials at all", "nobody"),
    Way("dw-no-role", "the role cannot be assumed", "no_role"),
)

# Each of the other DAGs has one task: all calls of AWS fail, or the search for a missing conn_id would list again what a task of
# `refused` needs as it was.
SETTINGS: dict[str, dict[str, Any]] = {
    "refused": {
        "regions": ["eu-west-1", *(where for where, operation, _ in FAULTY_REGIONS.values() if operation == MINT)]
    },
    "nowhere": {"regions": ["eu-west-1"]},
    "unlisted": {"regions": ["eu-central-1"]},
    "nobody": {"regions": ["eu-west-1"]},
    "no_role": {"regions": ["eu-west-1"], "role_arn": NO_ROLE},
}
# 20 s: a task stops asking its API server, with all its retries, before a minute is over.
for _settings in SETTINGS.values():
    _settings.update(db_user="etl", managed_conn_ids="^dw-", aws_timeout_seconds=20)


def _cluster(conn_id: str, identifier: str | None = None, region: str = "eu-west-1", **tags: str) -> dict[str, Any]:
    return {
        "identifier": identifier or conn_id.removeprefix("dw-"),
        "region": region,
        "status": STATES.get(conn_id, "available"),
        "tags": {"airflow:conn-id": conn_id, **tags},
    }


WAREHOUSES = {
    "clusters": [
        _cluster("dw-twice", "first"),
        _cluster("dw-twice", "second"),
        _cluster("dw-mistyped", **{"airflow:duration": "fast"}),
        *(_cluster(conn_id) for conn_id in (*STATES, "dw-gone", "dw-nobody", "dw-no-role")),
        *(_cluster(conn_id, region=region) for conn_id, (region, _, _) in FAULTY_REGIONS.items()),
    ]
}


def add_faults(aws: SimulatedAws) -> None:
    """Switch on every fault."""
    for region, operation, kind in FAULTY_REGIONS.values():
        aws.faults.add(operation, kind, region=region)


def without_identity(sentence: str) -> str:
    """Return a sentence without the caller, whose name a server may know from an earlier call."""
    return re.sub(r" as (arn:\S+|the default AWS identity of this process) failed", " as <identity> failed", sentence)


def normalized(sentence: str) -> str:
    """Return a sentence without the parts that differ from run to run."""
    sentence = re.sub(r"\d{8}T\d{6}Z", "[time]", sentence)
    return re.sub(r"http://127\.0\.0\.1:\d+\S*?(?=[.,]? |\.?$)", "[AWS]", sentence)
