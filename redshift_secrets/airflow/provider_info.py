"""How Airflow finds out about this package: the entry point `apache_airflow_provider`. Imports nothing.

https://airflow.apache.org/docs/apache-airflow-providers/howto/create-custom-providers.html
"""

from __future__ import annotations


def get_provider_info() -> dict[str, object]:
    """Return what `airflow providers` shows of this package, in the form of Airflow's `provider_info.schema.json`.

    No `config`: before 3.2 an Airflow stops at a provider that describes options of `[secrets]`, where these settings are, and
    a section of its own would be a second place for them, which Airflow reads only after it has constructed the backend.
    """
    return {
        "package-name": "redshift-secrets",
        "name": "redshift-secrets",
        "description": "Airflow gets its Redshift connections from cluster tags and IAM. No passwords, no typed-in connections.",
        "secrets-backends": [
            "redshift_secrets.RedshiftSecretsBackend",
            "redshift_secrets.ServerSideBackend",
        ],
        "cli": ["redshift_secrets.cli.app.airflow_commands"],
    }
