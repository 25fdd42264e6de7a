"""The Amazon provider's own backends behind us, in front of the stand-in, found through Airflow's own lookup."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import boto3
import pytest
from cryptography.fernet import Fernet

from redshift_secrets.local import config
from redshift_secrets.local.stand_in import StandIn

WAREHOUSES = {
    "clusters": [
        {
            "identifier": "prod",
            "database": {"name": "dwh", "users": ["etl"]},
            "tags": {"airflow:conn-id": "analytics", "airflow:db-user": "etl"},
        }
    ]
}

LOOK_UP = """
import json
from airflow.configuration import conf
from airflow.models import Variable as ServerVariable
from airflow.models.connection import Connection as ServerConnection

def host(conn_id):
    return ServerConnection.get_connection_from_secrets(conn_id).host

print(json.dumps({
    "ours": ServerConnection.get_connection_from_secrets("analytics").login,
    "from Secrets Manager": host("orders"),
    "from Parameter Store": host("mail"),
    "variable": ServerVariable.get("bucket"),
    "configuration": conf.get("core", "fernet_key"),
}))
"""
FALLBACKS = [
    {
        "class": "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend",
        "kwargs": {"connections_prefix": "airflow/connections", "variables_prefix": None, "config_prefix": None},
    },
    {
        "class": "airflow.providers.amazon.aws.secrets.systems_manager.SystemsManagerParameterStoreBackend",
        "kwargs": {"connections_prefix": "/airflow/connections", "variables_prefix": "/airflow/variables"},
    },
]


def test_connections_variables_and_configuration_of_the_amazon_providers_backends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with StandIn(config.parse(WAREHOUSES)) as stand_in:
        for name, value in stand_in.environment().items():
            monkeypatch.setenv(name, value)
        look_up_in_every_backend(stand_in)


def look_up_in_every_backend(stand_in: StandIn) -> None:
    # boto3's default session remembers the keys of whichever stand-in this process met first.
    session = boto3.Session()
    secrets_manager, parameters = session.client("secretsmanager"), session.client("ssm")
    # The warehouse's conn_id has an old password there, which must not be used.
    for name, host in (("orders", "orders.internal"), ("analytics", "old.internal")):
        secret = json.dumps({"conn_type": "postgres", "host": host})
        secrets_manager.create_secret(Name=f"airflow/connections/{name}", SecretString=secret)
    parameters.put_parameter(Name="/airflow/connections/mail", Value="smtp://mail.internal", Type="SecureString")
    parameters.put_parameter(Name="/airflow/variables/bucket", Value="s3://orders", Type="String")
    fernet_key = Fernet.generate_key().decode()
    parameters.put_parameter(Name="/airflow/config/fernet", Value=fernet_key, Type="SecureString")

    done = subprocess.run(
        [sys.executable, "-c", LOOK_UP],
        env={
            **os.environ,
            "AIRFLOW__SECRETS__BACKEND": "redshift_secrets.RedshiftSecretsBackend",
            "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"regions": ["eu-west-1"], "fallback": FALLBACKS}),
            "AIRFLOW__CORE__FERNET_KEY_SECRET": "fernet",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "ours": "IAM:etl",
        "from Secrets Manager": "orders.internal",
        "from Parameter Store": "mail.internal",
        "variable": "s3://orders",
        "configuration": fernet_key,
    }
    calls = stand_in.aws.calls.by_operation()
    # `orders`, and `mail` which is not there; never `analytics`, which is ours.
    assert calls["secretsmanager:GetSecretValue"] == 2
    assert calls["redshift:GetClusterCredentials"] == 1
