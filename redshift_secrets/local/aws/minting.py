"""Mint temporary database passwords, by the rules of the three operations that return them."""

from __future__ import annotations

import re

from redshift_secrets.local.aws.errors import AwsError
from redshift_secrets.local.tokens import Token, TokenRegistry

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+.@-]{0,63}")
_CHARACTERS = "letters, numbers, underscores, plus signs, periods, at symbols or hyphens"
_GROUP = re.compile(r"[a-z][a-z0-9_+.@-]{0,63}")


def mint_for_db_user(
    tokens: TokenRegistry,
    arn: str,
    *,
    db_user: str,
    auto_create: bool,
    db_groups: list[str],
    database: str | None,
    duration: int | None,
) -> Token:
    """Mint a token for a database user, which need not exist.

    Raises `AwsError` (ValidationError) for names and durations that AWS rejects.

    https://docs.aws.amazon.com/redshift/latest/APIReference/API_GetClusterCredentials.html
    """
    if not _NAME.fullmatch(db_user) or db_user.lower() == "public":
        raise AwsError(
            "ValidationError",
            f"DbUser must be 1 to 64 {_CHARACTERS}, start with a letter and not be PUBLIC.",
        )
    for group in db_groups:
        if not _GROUP.fullmatch(group):
            raise AwsError(
                "ValidationError",
                f"The database group {group!r} must be 1 to 64 lowercase {_CHARACTERS} and start with a letter.",
            )
    role = db_user.lower()
    return tokens.mint(
        warehouse=arn,
        user=f"{'IAMA' if auto_create else 'IAM'}:{role}",
        role=role,
        duration=_checked_duration(duration, "ValidationError"),
        database=_checked_database(database, "ValidationError"),
        db_groups=tuple(db_groups),
        auto_create=auto_create,
    )


def mint_for_identity(
    tokens: TokenRegistry,
    arn: str,
    *,
    user: str,
    groups: tuple[str, ...],
    database: str | None,
    duration: int | None,
    code: str,
) -> Token:
    """Mint a token for the database user of an IAM identity; the first login creates the user. `groups` are the groups or
    database roles of its session tags.

    Raises `AwsError` with `code` for names and durations that AWS rejects.

    https://docs.aws.amazon.com/redshift/latest/APIReference/API_GetClusterCredentialsWithIAM.html
    https://docs.aws.amazon.com/redshift-serverless/latest/APIReference/API_GetCredentials.html
    """
    return tokens.mint(
        warehouse=arn,
        user=user,
        role=user,
        duration=_checked_duration(duration, code),
        database=_checked_database(database, code),
        tagged_groups=groups,
        auto_create=True,
    )


def _checked_duration(duration: int | None, code: str) -> int:
    seconds = 900 if duration is None else duration
    if not 900 <= seconds <= 3600:
        raise AwsError(code, f"The duration must be between 900 and 3600 seconds, is {seconds}.")
    return seconds


def _checked_database(database: str | None, code: str) -> str | None:
    if database is not None and not _NAME.fullmatch(database):
        raise AwsError(code, f"{database!r} is not a valid database name.")
    return database
