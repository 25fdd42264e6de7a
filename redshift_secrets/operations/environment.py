"""A connection as the environment of a program that logs in with libpq (psql, psycopg, a notebook) or with dbt."""

from __future__ import annotations

from collections.abc import Mapping

from redshift_secrets.airflow.connection import with_root_certificates
from redshift_secrets.errors import CannotServeError
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.model import Private, TaskContext, reveal

NAMES = (
    "PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLMODE", "PGSSLROOTCERT", "DBT_ENV_SECRET_PASSWORD",
)  # fmt: skip
"""What a connection may set. dbt keeps a variable of that prefix out of its logs; it reads the others by these names, since
`DBT_HOST` is an option of its own. https://docs.getdbt.com/reference/dbt-jinja-functions/env_var"""

_CONTRADICTING = (
    "PGCHANNELBINDING PGGSSDELEGATION PGGSSENCMODE PGGSSLIB PGHOSTADDR PGKRBSRVNAME PGLOADBALANCEHOSTS PGMAXPROTOCOLVERSION"
    " PGMINPROTOCOLVERSION PGOPTIONS PGPASSFILE PGREQUIREAUTH PGREQUIREPEER PGREQUIRESSL PGSERVICE PGSERVICEFILE PGSSLCERT"
    " PGSSLCERTMODE PGSSLCOMPRESSION PGSSLKEY PGSSLNEGOTIATION PGSSLSNI PGTARGETSESSIONATTRS"
).split()
"""What libpq reads beside these and means another server: where it is, how to log in there, what it understands. The others say
how somebody likes to work (`PGTZ`, `PGAPPNAME`, `PGCONNECT_TIMEOUT`), or ask for more protection (`PGSSLCRL`), and stay.
https://www.postgresql.org/docs/current/libpq-envars.html"""


class ClientEnvironment(Private, frozen=True):
    """Variables to set, those to remove, and a sentence about the login, which says when it expires."""

    hidden = ("variables",)

    variables: Mapping[str, str]
    removed: tuple[str, ...]
    about: str

    def applied_to(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return `environ` with these changes."""
        kept = {name: value for name, value in environ.items() if name not in self.removed}
        return {**kept, **reveal(self.variables)}


def client_environment(
    broker: Broker, conn_id: str, task: TaskContext, environ: Mapping[str, str], sslrootcert: str | None
) -> ClientEnvironment | None:
    """Return the environment for a program that is started with `environ`, `None` where no tag claims the conn_id.

    `sslrootcert` is the setting of this name. Raises `RedshiftSecretsError`, also where the connection has no password.
    """
    fields = broker.connection(conn_id, task.team, task)
    if fields is None:
        return None
    if fields.login is None or fields.password is None:
        raise CannotServeError(
            f"connection {conn_id!r} has no password: with auth = connector the driver of Airflow's hook mints for itself, and"
            f" no other program does. Use db-user or iam, for a further conn_id if need be"
        )
    # Whatever its type: the driver that needs no root certificates is not the one that reads these variables.
    given = fields.extra if sslrootcert is None else {"sslrootcert": sslrootcert, **fields.extra}
    extra = with_root_certificates("postgres", given, environ)
    password = reveal(fields.password)
    variables = {
        "PGHOST": fields.host,
        "PGPORT": str(fields.port),
        "PGUSER": fields.login,
        "PGPASSWORD": password,
        "PGDATABASE": fields.schema,
        "PGSSLMODE": str(extra["sslmode"]),
        "DBT_ENV_SECRET_PASSWORD": password,
    }
    if variables["PGSSLMODE"].startswith("verify-"):
        variables["PGSSLROOTCERT"] = str(extra["sslrootcert"])
    removed = (*_CONTRADICTING, *(name for name in NAMES if name not in variables))
    return ClientEnvironment(variables, removed, fields.description)
