"""Verdicts, and how many failures with one cause become one of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

from redshift_secrets.aws.advice import THROTTLED
from redshift_secrets.errors import AwsError, RedshiftSecretsError, cause_of, one_line

Status = Literal["ok", "warning", "problem", "unknown"]
"""`problem`: something that is configured or tagged does not work. `warning`: it works, and is likely not what is meant. `unknown`:
it could not be found out."""

_MOST_NAMES = 4


class Verdict(Struct, frozen=True):
    """What one check has found, as one line. `where` are the things it holds for, all of them; the line names the first few."""

    check: str
    status: Status
    message: str
    where: tuple[str, ...] = ()


class Failure(Struct, frozen=True):
    """A call that failed: `kind` is what it is counted as (`listing`), `where` what it was about."""

    check: str
    kind: str
    where: str
    error: RedshiftSecretsError


def verdict(check: str, status: Status, message: str, where: Iterable[str] = ()) -> Verdict:
    """Return a verdict on one line."""
    return Verdict(check, status, one_line(message), tuple(dict.fromkeys(where)))


def counted(number: int, thing: str) -> str:
    """Return `1 cluster`, `2 clusters`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def names(found: Sequence[str]) -> str:
    """Return the first of several names, and how many there are beside."""
    found = list(dict.fromkeys(found))
    more = len(found) - _MOST_NAMES
    return ", ".join(found[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def by_cause(failures: Sequence[Failure]) -> list[Verdict]:
    """Return one verdict for each cause, in the check of the first failure that it has."""
    groups: dict[tuple[str, ...], list[Failure]] = {}
    for failure in failures:
        groups.setdefault(_cause(failure.error), []).append(failure)
    return [_verdict(same) for same in groups.values()]


def _cause(error: RedshiftSecretsError) -> tuple[str, ...]:
    # What one identity may not do is granted to that one.
    identity = (error.identity,) if isinstance(error, AwsError) and not error.host_only else ()
    if not isinstance(error, AwsError):
        return (*cause_of(error), str(getattr(error, "server", None) or error))
    # A call may take several permissions.
    granted = error.advice.partition(" on ")[0] if error.advice.startswith("Grant ") else ""
    return (*cause_of(error), *identity, granted)


def _verdict(same: Sequence[Failure]) -> Verdict:
    first, error = same[0], same[0].error
    where = [each.where for each in same]
    of_aws = isinstance(error, AwsError) and not error.host_only
    status: Status = "unknown" if isinstance(error, AwsError) and error.code in THROTTLED else "problem"
    kinds = dict.fromkeys(each.kind for each in same)
    numbers = " and ".join(counted(len({each.where for each in same if each.kind == kind}), kind) for kind in kinds)
    said = str(error)
    if len(dict.fromkeys(where)) > 1 and isinstance(error, AwsError) and of_aws:
        places = names([each.removesuffix(f" as {error.identity}") for each in where])
        said = (
            f"{error.operation} as {error.identity} failed ({error.code}) for {numbers} ({places}). The first: {error.reason}"
            f" {_advice(error, same)}"
        )
    elif len(dict.fromkeys(where)) > 1:
        said = f"{numbers} ({names(where)}) failed for one reason: {error}"
    return verdict(first.check, status, said, where)


def _advice(error: AwsError, same: Sequence[Failure]) -> str:
    """What to do about all of them: what is to be granted is named for each."""
    if not error.advice.startswith(f"Grant {error.operation} on "):
        return error.advice
    resources = [each.error.resource for each in same if isinstance(each.error, AwsError)]
    return f"Grant {error.operation} on {names(resources)} to {error.identity}."
