"""Reads which KMS key encrypts a secret, without its value."""

from __future__ import annotations

from redshift_secrets.aws.errors import translate_errors
from redshift_secrets.aws.sessions import Sessions
from redshift_secrets.settings import Settings


class SecretKeys:
    """AWS, called as the identities that the settings name."""

    def __init__(self, settings: Settings) -> None:
        self._sessions = Sessions(settings)

    def key_of(self, secret_arn: str, region: str, role_arn: str | None) -> str | None:
        """Return the ARN of the key, with a wildcard where the secret names it by an alias, `None` for AWS's own. Raises `AwsError`.

        https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_DescribeSecret.html
        """
        with translate_errors("secretsmanager:DescribeSecret", secret_arn, self._sessions.expected_identity(role_arn)):
            client = self._sessions.client("secretsmanager", region=region, role_arn=role_arn)
            key = client.describe_secret(SecretId=secret_arn).get("KmsKeyId")
        if not isinstance(key, str) or not key or key.endswith("alias/aws/secretsmanager"):
            return None
        if key.startswith("arn:") and ":key/" in key:
            return key
        # IAM knows keys alone, so an alias does not do.
        partition, _, _, account = secret_arn.split(":")[1:5]
        name = key if not key.startswith(("arn:", "alias/")) else "*"
        return f"arn:{partition}:kms:{region}:{account}:key/{name}"
