"""Who a login becomes in a warehouse's database: its role, created if asked for, and its groups while it lasts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import psycopg
from psycopg import sql

from redshift_secrets.local.postgres import SUPERUSER, PostgresServer
from redshift_secrets.local.tokens import Token
from redshift_secrets.local.wire import RefusedError

_LONGEST_NAME = 63  # bytes; PostgreSQL silently cuts what is longer, and one user would be taken for another
_FIRST_OWN_OID = 16_384  # below are PostgreSQL's own roles: the superuser, pg_execute_server_program, ...


class SessionRoles:
    """The roles of one warehouse. Called by one thread at a time.

    Redshift's group memberships of GetClusterCredentials (DbGroups) are the session's; PostgreSQL's are the role's.
    So a role is in a group for as long as any session of it with that group lives.
    Followed: https://docs.aws.amazon.com/redshift/latest/APIReference/API_GetClusterCredentials.html
    """

    def __init__(self, server: PostgresServer, admin: str) -> None:
        self._server = server
        self._admin = admin
        self._sessions: Counter[tuple[str, str]] = Counter()
        # Memberships that a session brought about, and that must end with the last one.
        self._ours: set[tuple[str, str]] = set()

    def enter(self, token: Token) -> None:
        """Make the token's role ready for one more session, starting PostgreSQL if need be.

        Raises `RefusedError` with Redshift's words for an unknown user or group, `PostgresError` when PostgreSQL
        cannot be started, `psycopg.Error` when it refuses something else.
        """
        for name in (token.role, *token.db_groups):
            if len(name.encode()) > _LONGEST_NAME:
                raise RefusedError("42622", f'identifier "{name}" is longer than {_LONGEST_NAME} bytes')
        self._server.start()
        with self._server.connect() as connection:
            # https://github.com/aws/amazon-redshift-python-driver/issues/255 shows Redshift's answer to this.
            if not token.auto_create and not _exists(connection, token.role, can_login=True):
                raise RefusedError("42704", f'user "{token.user}" does not exist')
            for group in token.db_groups:
                if not _exists(connection, group, can_login=False):
                    raise RefusedError("42704", f'group "{group}" does not exist')
            if token.auto_create and not _exists(connection, token.role, can_login=True):
                self._create(connection, token.role)
            joined: list[str] = []
            try:
                for group in dict.fromkeys(token.db_groups):
                    self._join(connection, token.role, group)
                    joined.append(group)
            except psycopg.Error:
                self._leave(token.role, joined)
                raise

    def leave(self, token: Token) -> None:
        """Undo `enter`: the role leaves the groups that no other session of it needs. Raises `psycopg.Error`."""
        self._leave(token.role, list(dict.fromkeys(token.db_groups)))

    def _create(self, connection: psycopg.Connection[Any], role: str) -> None:
        # As the admin, who then may do what the new user may, as in Redshift.
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(self._admin)))
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        connection.execute("RESET ROLE")

    def _join(self, connection: psycopg.Connection[Any], role: str, group: str) -> None:
        if not self._sessions[role, group] and not _is_member(connection, role, group):
            # PostgreSQL keeps one membership per grantor: this one, of the superuser, is ours alone.
            statement = sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), sql.Identifier(role))
            connection.execute(statement)
            self._ours.add((role, group))
        self._sessions[role, group] += 1

    def _leave(self, role: str, groups: list[str]) -> None:
        self._sessions.subtract((role, group) for group in groups)
        over = [group for group in groups if not self._sessions[role, group] and (role, group) in self._ours]
        self._ours.difference_update((role, group) for group in over)
        if over:
            with self._server.connect() as connection:
                for group in over:
                    statement = sql.SQL("REVOKE {} FROM {}").format(sql.Identifier(group), sql.Identifier(role))
                    connection.execute(statement)


def _exists(connection: psycopg.Connection[Any], name: str, *, can_login: bool) -> bool:
    query = "SELECT 1 FROM pg_roles WHERE rolname = %s AND rolcanlogin = %s AND oid >= %s"
    return connection.execute(query, (name, can_login, _FIRST_OWN_OID)).fetchone() is not None


def _is_member(connection: psycopg.Connection[Any], role: str, group: str) -> bool:
    query = """SELECT 1 FROM pg_auth_members m
               JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles r ON r.oid = m.member
               JOIN pg_roles grantor ON grantor.oid = m.grantor
               WHERE g.rolname = %s AND r.rolname = %s AND grantor.rolname = %s"""
    return connection.execute(query, (group, role, SUPERUSER)).fetchone() is not None
