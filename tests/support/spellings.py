"""What the author of a DAG may write for the conn_id of another team, without ever getting that connection."""

from __future__ import annotations

from redshift_secrets.airflow.refusals import EXPLAIN_PREFIX

CONN_ID = "payroll"
TEAM = "finance"

SPELLINGS = (
    CONN_ID,
    # the ways in which other backends put a team into a name: the Amazon provider's, Airflow's environment variables, paths
    f"{TEAM}--{CONN_ID}",
    f"{TEAM}___{CONN_ID}",
    f"_{TEAM}___{CONN_ID}",
    f"{TEAM}/{CONN_ID}",
    f"{TEAM}:{CONN_ID}",
    f"{TEAM}.{CONN_ID}",
    f"../{CONN_ID}",
    f"{CONN_ID}/{TEAM}",
    # what a worker with `ServerSideBackend` asks the server for
    f"{EXPLAIN_PREFIX}{CONN_ID}",
    f"{EXPLAIN_PREFIX}{EXPLAIN_PREFIX}{CONN_ID}",
    f"{EXPLAIN_PREFIX}{TEAM}--{CONN_ID}",
    f"{EXPLAIN_PREFIX}{'0' * 32}.{CONN_ID}",
    # what something on the way might treat as the same name
    CONN_ID.upper(),
    CONN_ID.title(),
    f" {CONN_ID}",
    f"{CONN_ID} ",
    f"{CONN_ID}\n",
    f"{CONN_ID}\x00",
    f"{CONN_ID}\x00x",
    f"{CONN_ID}%20",
    f"{CONN_ID}?team_name={TEAM}",
    f"{CONN_ID}#{TEAM}",
    "p\u0430yroll",  # a Cyrillic letter
    "\uff50ayroll",  # a full-width letter, which NFKC normalises to the ordinary one
    "payro\u200bll",  # a zero-width space
)
