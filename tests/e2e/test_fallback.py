"""The backends of the Amazon provider as fallbacks, used through Airflow's own lookup."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import boto3
import pytest
from cryptography.fernet import Fernet

from redshift_secrets.local.stand_in import StandIn
from tests.e2e.conftest import MINT
from tests.support.airflow_parts import backend_environment

pytestmark = pytest.mark.airflow

WAREHOUSES = {
    "clusters": [
        {
            "identifier": "prod",
            "database": {"name": "dwh", "users": ["etl"]},
            "tags": {"airflow:conn-id": "analytics", "airflow:db-user": "etl"},
        }
    ]
}

SCRIPT = """
import json
from airflow.configuration import conf
from airflow.models import Variable as ServerVariable
from airflow.models.connection import Connection as ServerConnection

def host(conn_id):
    return ServerConnection.get_connection_from_secrets(conn_id).host

print(json.dumps({
    "managed": ServerConnection.get_connection_from_secrets("analytics").login,
    "from Secrets Manager": host("orders"),
    "from Parameter Store": host("mail"),
    "variable": ServerVariable.get("bucket"),
    "configuration": conf.get("core", "fernet_key"),
}))
"""
FALLBACKS = [
    {
        "backend": "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend",
        "backend_kwargs": {
            "connections_prefix": "airflow/connections",
            "variables_prefix": None,
            "config_prefix": None,
        },
    },
    {
        "backend": "airflow.providers.amazon.aws.secrets.systems_manager.SystemsManagerParameterStoreBackend",
        "backend_kwargs": {"connections_prefix": "/airflow/connections", "variables_prefix": "/airflow/variables"},
    },
]


def test_connections_variables_and_configuration_come_from_the_backends_of_the_amazon_provider(
    stand_in: StandIn,
) -> None:
    session = boto3.Session()
    secrets_manager, parameters = session.client("secretsmanager"), session.client("ssm")
    # An old password of the managed conn_id is there, which must not be used.
    for name, host in (("orders", "orders.internal"), ("analytics", "old.internal")):
        secret = json.dumps({"conn_type": "postgres", "host": host})
        secrets_manager.create_secret(Name=f"airflow/connections/{name}", SecretString=secret)
    parameters.put_parameter(Name="/airflow/connections/mail", Value="smtp://mail.internal", Type="SecureString")
    parameters.put_parameter(Name="/airflow/variables/bucket", Value="s3://orders", Type="String")
    fernet_key = Fernet.generate_key().decode()
    parameters.put_parameter(Name="/airflow/config/fernet", Value=fernet_key, Type="SecureString")

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={
            **os.environ,
            **backend_environment(fallback=FALLBACKS),
            "AIRFLOW__CORE__FERNET_KEY_SECRET": "fernet",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "managed": "IAM:etl",
        "from Secrets Manager": "orders.internal",
        "from Parameter Store": "mail.internal",
        "variable": "s3://orders",
        "configuration": fernet_key,
    }
    calls = stand_in.aws.calls.by_operation()
    # `orders`, and `mail` which is not there; never `analytics`, which is managed.
    assert calls["secretsmanager:GetSecretValue"] == 2
    assert calls[MINT] == 1
