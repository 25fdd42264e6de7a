"""The database role of a login, created on request, and its group memberships for the session."""

from __future__ import annotations

from collections import Counter
from typing import Any

import psycopg
from psycopg import sql

from redshift_secrets.local.postgres import SUPERUSER, PostgresServer
from redshift_secrets.local.tokens import Token
from redshift_secrets.local.wire import RefusedError

_MAX_NAME_BYTES = 63  # PostgreSQL silently truncates longer names, which could confuse two users
_FIRST_USER_OID = 16_384  # lower ones are PostgreSQL's built-in roles: the superuser, pg_execute_server_program, ...


class SessionRoles:
    """The roles of one warehouse. Not thread-safe.

    In Redshift, the groups of GetClusterCredentials (DbGroups) and those of session tags apply to the session; in
    PostgreSQL, groups apply to the role. So a role is a member of a group as long as it has a session with that group.
    Redshift's database roles are groups here, as in PostgreSQL.
    Reference: https://docs.aws.amazon.com/redshift/latest/APIReference/API_GetClusterCredentials.html
    """

    def __init__(self, server: PostgresServer, admin: str) -> None:
        self._server = server
        self._admin = admin
        self._sessions: Counter[tuple[str, str]] = Counter()
        # Memberships granted for a session, to be revoked after the last such session.
        self._granted: set[tuple[str, str]] = set()

    def enter(self, token: Token) -> list[str]:
        """Prepare the token's role for one more session, and return the groups it has joined for it; starts PostgreSQL if
        necessary.

        Raises `RefusedError` with Redshift's message for an unknown user or group, `PostgresError` if PostgreSQL
        cannot be started, `psycopg.Error` for any other error of PostgreSQL.
        """
        for name in (token.role, *token.db_groups, *token.tagged_groups):
            if len(name.encode()) > _MAX_NAME_BYTES:
                raise RefusedError("42622", f'identifier "{name}" is longer than {_MAX_NAME_BYTES} bytes')
        self._server.start()
        with self._server.connect() as connection:
            # https://github.com/aws/amazon-redshift-python-driver/issues/255 shows Redshift's error message.
            if not token.auto_create and not _exists(connection, token.role, can_login=True):
                raise RefusedError("42704", f'user "{token.user}" does not exist')
            for group in token.db_groups:
                if not _exists(connection, group, can_login=False):
                    raise RefusedError("42704", f'group "{group}" does not exist')
            if token.auto_create and not _exists(connection, token.role, can_login=True):
                self._create(connection, token.role)
            # https://docs.aws.amazon.com/redshift/latest/mgmt/redshift-iam-access-federated-db-roles.html
            tagged = [group for group in token.tagged_groups if _exists(connection, group, can_login=False)]
            joined: list[str] = []
            try:
                for group in dict.fromkeys([*token.db_groups, *tagged]):
                    self._join(connection, token.role, group)
                    joined.append(group)
            except psycopg.Error:
                self.leave(token.role, joined)
                raise
            return joined

    def leave(self, role: str, groups: list[str]) -> None:
        """Undo `enter`: revoke those of the joined groups that no other session of the role needs. Raises `psycopg.Error`."""
        self._sessions.subtract((role, group) for group in groups)
        unused = [group for group in groups if not self._sessions[role, group] and (role, group) in self._granted]
        self._granted.difference_update((role, group) for group in unused)
        if unused:
            with self._server.connect() as connection:
                for group in unused:
                    statement = sql.SQL("REVOKE {} FROM {}").format(sql.Identifier(group), sql.Identifier(role))
                    connection.execute(statement)

    def _create(self, connection: psycopg.Connection[Any], role: str) -> None:
        # Created by the admin, who thus inherits the privileges of the new user, as in Redshift.
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(self._admin)))
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        connection.execute("RESET ROLE")

    def _join(self, connection: psycopg.Connection[Any], role: str, group: str) -> None:
        if not self._sessions[role, group] and not _is_member(connection, role, group):
            # PostgreSQL keeps one membership per grantor; only this class grants any as the superuser.
            statement = sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), sql.Identifier(role))
            connection.execute(statement)
            self._granted.add((role, group))
        self._sessions[role, group] += 1


def _exists(connection: psycopg.Connection[Any], name: str, *, can_login: bool) -> bool:
    query = "SELECT 1 FROM pg_roles WHERE rolname = %s AND rolcanlogin = %s AND oid >= %s"
    return connection.execute(query, (name, can_login, _FIRST_USER_OID)).fetchone() is not None


def _is_member(connection: psycopg.Connection[Any], role: str, group: str) -> bool:
    query = """SELECT 1 FROM pg_auth_members m
               JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles r ON r.oid = m.member
               JOIN pg_roles grantor ON grantor.oid = m.grantor
               WHERE g.rolname = %s AND r.rolname = %s AND grantor.rolname = %s"""
    return connection.execute(query, (group, role, SUPERUSER)).fetchone() is not None
