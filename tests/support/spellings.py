"""What the author of a DAG may write for the conn_id of another team, and never gets it by."""

from __future__ import annotations

CONN_ID = "payroll"
TEAM = "finance"

SPELLINGS = (
    CONN_ID,
    # as other backends put a team into a name: the Amazon provider's, Airflow's environment variables, paths
    f"{TEAM}--{CONN_ID}",
    f"{TEAM}___{CONN_ID}",
    f"_{TEAM}___{CONN_ID}",
    f"{TEAM}/{CONN_ID}",
    f"{TEAM}:{CONN_ID}",
    f"{TEAM}.{CONN_ID}",
    f"../{CONN_ID}",
    f"{CONN_ID}/{TEAM}",
    # as our own worker asks the server
    f"redshift-secrets.told.{CONN_ID}",
    f"redshift-secrets.told.redshift-secrets.told.{CONN_ID}",
    f"redshift-secrets.told.{TEAM}--{CONN_ID}",
    # what something on the way might take for the same
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
    "\uff50ayroll",  # a letter of full width, which is the same under NFKC
    "payro\u200bll",  # a space of no width
)
