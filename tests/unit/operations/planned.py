"""The plan of policies for some warehouses."""

from __future__ import annotations

from redshift_secrets.lookup.spec import build_spec
from redshift_secrets.model import Scope
from redshift_secrets.operations.policy import plan_policies
from redshift_secrets.settings import Settings

CALLER = "arn:aws:iam::123456789012:role/airflow"
OTHER = "arn:aws:iam::210987654321:role/airflow"
SECRET = "a-word-that-nobody-prints"


def plan(*warehouses, unseen=None, home=("eu-west-1",), caller=CALLER, key=lambda spec: None, **settings):
    settings = Settings.from_kwargs({"regions": ["eu-west-1"], **settings})
    specs = [
        build_spec(each, conn_id, settings) for each in warehouses for conn_id in each.tags["airflow:conn-id"].split()
    ]
    return plan_policies(settings, specs, unseen or {}, home, caller, key)


def tagged(**tags):
    return {
        "airflow:conn-id": "analytics",
        **{f"airflow:{name.replace('_', '-')}": value for name, value in tags.items()},
    }


def everything_unseen(why="AWS does not answer", **settings):
    scopes = [
        Scope(kind, "eu-west-1", role)
        for kind in ("cluster", "workgroup")
        for role in (None, *settings.pop("roles", ()))
    ]
    return plan(unseen=dict.fromkeys(scopes, why), **settings)
