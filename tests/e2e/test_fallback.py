"""The backends of the Amazon provider as fallbacks, used through Airflow's own lookup."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

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


@pytest.fixture
def fernet_key(stand_in: StandIn) -> Iterator[str]:
    """The key that Parameter Store has, beside connections and a variable there and in Secrets Manager; afterwards they are gone, for
    other tests have the same ones."""
    session = boto3.Session()
    secrets_manager, parameters = session.client("secretsmanager"), session.client("ssm")
    # An old password of the managed conn_id is there, which must not be used.
    secrets = {
        f"airflow/connections/{name}": host
        for name, host in {"orders": "orders.internal", "analytics": "old.internal"}.items()
    }
    for name, host in secrets.items():
        secrets_manager.create_secret(Name=name, SecretString=json.dumps({"conn_type": "postgres", "host": host}))
    key = Fernet.generate_key().decode()
    texts = {
        "/airflow/connections/mail": "smtp://mail.internal",
        "/airflow/variables/bucket": "s3://orders",
        "/airflow/config/fernet": key,
    }
    for name, text in texts.items():
        parameters.put_parameter(Name=name, Value=text, Type="SecureString")
    stand_in.aws.calls.clear()
    yield key
    for name in secrets:
        secrets_manager.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    parameters.delete_parameters(Names=list(texts))


def test_connections_variables_and_configuration_come_from_the_backends_of_the_amazon_provider(
    stand_in: StandIn, fernet_key: str
) -> None:
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
