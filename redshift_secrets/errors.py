"""What can go wrong, in words for the person who reads the task log.

Every message names the thing, says what is wrong with it and what to do. No message carries a secret.
All arguments are positional, so that an error can be copied and raised again in another thread.
"""

from __future__ import annotations

import json
from collections.abc import Sequence


class RedshiftSecretsError(Exception):
    """Every error of this package."""


class SettingsError(RedshiftSecretsError):
    """`backend_kwargs` says something unknown or impossible; `problems` lists everything that is wrong, not only the
    first thing."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        return f"redshift-secrets cannot start, its backend_kwargs need mending:\n{lines}"


NO_FLEET_KEY = (
    "cache.redis_url needs a key, since nothing leaves a host unsealed: set cache.key, or [core] fernet_key of Airflow, to"
    " the same value on every host. Make one with: python -c 'from cryptography.fernet import Fernet;"
    " print(Fernet.generate_key().decode())'"
)


class CannotServeError(RedshiftSecretsError):
    """A conn_id is ours but cannot be served now; Airflow must not look for it anywhere else."""


class PerDagCredentialsError(RedshiftSecretsError):
    """What was asked for exists once for each DAG, and no DAG was named."""


class AwsError(RedshiftSecretsError):
    """A call to AWS did not give an answer that can be used.

    `code` is AWS's own error code (`AccessDenied`, `ThrottlingException`, ...) or, where AWS did not answer at all,
    one of `NoCredentials`, `Unreachable`, `TimedOut`, `Misconfigured`.
    """

    def __init__(self, operation: str, resource: str, identity: str, code: str, reason: str, advice: str) -> None:
        super().__init__(operation, resource, identity, code, reason, advice)
        self.operation = operation
        self.resource = resource
        self.identity = identity
        self.code = code
        self.reason = reason
        self.advice = advice

    def __str__(self) -> str:
        return (
            f"{self.operation} on {self.resource} as {self.identity} failed ({self.code}): {self.reason} {self.advice}"
        )


class DeadlineError(RedshiftSecretsError):
    """A renewal is still running when the lookup that waits for it has to end."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(what, seconds)
        self.what = what
        self.seconds = seconds

    def __str__(self) -> str:
        return f"{self.what} was not there after {self.seconds:g} s (setting aws_timeout_seconds). It goes on in the background"


class CatalogUnavailableError(RedshiftSecretsError):
    """No region of no account could be listed, and none was ever listed before."""

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__(errors)
        self.errors = tuple(errors)

    def __str__(self) -> str:
        return f"no warehouse could be listed: {join_messages(self.errors)}"


def join_messages(told: Sequence[str]) -> str:
    """Return several messages as one, with their full stops at its end alone."""
    return "; ".join([*(each.removesuffix(".") for each in told[:-1]), *told[-1:]])


def error_to_json(error: RedshiftSecretsError) -> str:
    """Write an error down for another process."""
    return json.dumps([type(error).__name__, error.args])


def error_from_json(text: str) -> RedshiftSecretsError | None:
    """Read an error that `error_to_json` wrote; `None` for anything else."""
    try:
        name, arguments = json.loads(text)
        kind = {known.__name__: known for known in RedshiftSecretsError.__subclasses__()}[name]
        return kind(*arguments)
    except (KeyError, TypeError, ValueError):
        return None
