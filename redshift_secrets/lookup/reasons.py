"""What a refusal says of a connection and its warehouse, and how often the log says it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from redshift_secrets.cache import forks
from redshift_secrets.errors import (
    CREDENTIALS_FROM,
    CannotServeError,
    RedshiftSecretsError,
    cause_of,
    join_messages,
    one_line,
)
from redshift_secrets.model import ConnectionSpec, Scope, Warehouse
from redshift_secrets.settings import Settings, values

_REPORT_SECONDS = 60.0
_MAX_LINES = 100
_MAX_NAMES = 10
_MAX_SCOPES = 4


def refusal(spec: ConnectionSpec, reason: str, cause: Exception | None = None) -> CannotServeError:
    """Return the refusal of a connection, which ends with the reason. `cause` is the error that led to it."""
    error = CannotServeError(f"connection {spec.conn_id!r} cannot be served: {reason}")
    error.warehouse_arn, error.cause = spec.warehouse.arn, cause
    return error


def not_ready(spec: ConnectionSpec) -> CannotServeError | None:
    """Return the refusal of a connection whose tags cannot work or whose warehouse accepts no logins, as far as its spec says."""
    if spec.errors:
        return refusal(spec, join_messages(spec.errors))
    if not spec.warehouse.can_serve:
        return refusal(spec, f"{spec.warehouse} is {state(spec)}. {advice_on_state(spec.warehouse)}")
    return None


def missing(conn_id: str, scopes: Sequence[Scope], settings: Settings) -> CannotServeError:
    """Return the refusal of a managed conn_id that no warehouse in these scopes claims."""
    from redshift_secrets.lookup.tags import MARKER  # what was listed a moment ago has loaded it

    try:
        values.conn_id(conn_id)
    except ValueError as error:
        return CannotServeError(
            f"connection {conn_id!r} matches managed_conn_ids, and no tag can claim it: it {error}. Rename it, or exclude it from"
            " managed_conn_ids"
        )
    return CannotServeError(
        f"connection {conn_id!r} matches managed_conn_ids, and no warehouse claims it: it is in no tag"
        f" {settings.tag_prefix}{MARKER} of {', '.join(map(str, scopes))}, listed as {caller_name(settings)}. Tag its"
        " warehouse, or exclude the conn_id from managed_conn_ids; `redshift-secrets list` shows tags that have no effect"
    )


def unanswered(endpoints: Sequence[str], scope: Scope, settings: Settings) -> str:
    """Return who does not answer to whom and what to do, while a lookup waits for what is asked about a scope: `endpoints` are those
    that this process has asked, none where another process asks or nothing was sent yet."""
    source = next((each for each in endpoints if each.startswith(CREDENTIALS_FROM)), None)
    if source is not None:
        return f"{source}, did not come. See why that takes so long, as this OS user; AWS itself was not asked yet"
    who = " and ".join(endpoints) if endpoints else "AWS"
    return (
        f"{who} did not answer in {scope.region}, called as {scope.role_arn or caller_name(settings)}. Check the route to it (NAT, VPC"
        " endpoint, proxy, security groups); where that is right, AWS throttles this account"
    )


def causes(failed: Sequence[tuple[Scope, RedshiftSecretsError]]) -> list[str]:
    """Return why scopes could not be listed: each cause once, with what it holds for."""
    return [f"{_named(same)}{' for one reason' if len(same) > 1 else ''}: {same[0][1]}" for same in _by_cause(failed)]


def unlisted(failed: Sequence[tuple[Scope, RedshiftSecretsError]]) -> list[str]:
    """Return the same as sentences."""
    return [
        f"{_named(same)} {'failed for one reason' if len(same) > 1 else 'could not be listed'}: {same[0][1]}"
        for same in _by_cause(failed)
    ]


def _by_cause(
    failed: Sequence[tuple[Scope, RedshiftSecretsError]],
) -> list[list[tuple[Scope, RedshiftSecretsError]]]:
    by_cause: dict[tuple[str, ...], list[tuple[Scope, RedshiftSecretsError]]] = {}
    for scope, error in failed:
        by_cause.setdefault(cause_of(error), []).append((scope, error))
    return list(by_cause.values())


def _named(same: Sequence[tuple[Scope, RedshiftSecretsError]]) -> str:
    if len(same) == 1:
        return str(same[0][0])
    roles = {each.role_arn for each, _ in same}
    accounts = f" in {len(roles)} accounts" if len(roles) > 1 else ""
    named = ", ".join(str(each) for each, _ in same[:_MAX_SCOPES])
    others = f" and {len(same) - _MAX_SCOPES} more" if len(same) > _MAX_SCOPES else ""
    return f"{len(same)} listings{accounts} ({named}{others})"


def caller_name(settings: Settings) -> str:
    """Return the identity that AWS is called as, as far as the settings name it."""
    return settings.role_arn or settings.default_identity


def state(spec: ConnectionSpec) -> str:
    """Return the state of the warehouse, as AWS last gave it."""
    return spec.warehouse.status if spec.warehouse.host is not None else f"{spec.warehouse.status}, without an endpoint"


def advice_on_state(warehouse: Warehouse) -> str:
    """Return what to do about a warehouse that does not accept logins."""
    move = "move the tag to another warehouse"
    status = warehouse.status.lower()
    if status.startswith("paus"):
        return f"Resume it, or {move}"
    if warehouse.is_being_deleted:
        return move.capitalize()
    if status.startswith(("hardware", "incompatible")):
        return f"See in the Redshift console what is wrong with it, or {move}"
    return f"Wait until it is available, or {move}"


class _Repeats:
    """How often a line was repeated since (a time on the monotonic clock), and for what, in order."""

    def __init__(self, level: int, line: str, since: float) -> None:
        self.level = level
        self.line = line
        self.since = since
        self.count = 0
        self.names: dict[str, None] = {}

    def add(self, name: str) -> None:
        self.count += 1
        if len(self.names) <= _MAX_NAMES:
            self.names[name] = None

    def report(self, now: float) -> str:
        names = list(self.names)[:_MAX_NAMES]
        others = " and others" if len(self.names) > _MAX_NAMES else ""
        return f"{self.count} more in {now - self.since:.0f} s, for {', '.join(names)}{others}: {self.line}"


class ErrorLog:
    """Logs why lookups fail: each reason once, and then every minute how many more failed for it.

    Lookups that go on failing report what is due; none is reported after the last one. It remembers the last 100 reasons, safely
    among threads; the child of a fork begins with none. `monotonic` returns seconds.
    """

    def __init__(self, logger: logging.Logger, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._monotonic = monotonic
        self.reset_after_fork()
        forks.reset_in_child(self)

    def reset_after_fork(self) -> None:
        """Called in the child, whose own log has no line yet."""
        self._lock = threading.Lock()
        self._repeats: dict[str, _Repeats] = {}  # the one that was reported last is the last

    def error(self, line: str, conn_id: str) -> None:
        """Log why the lookup of `conn_id` failed. Lines that differ in the conn_id alone have the same reason."""
        line = one_line(line)
        self._log(logging.ERROR, line, one_line(repr(conn_id), 100), line.replace(one_line(repr(conn_id)), ""))

    def warning(self, line: str, name: str, reason: str) -> None:
        """Log what went wrong with something else than a lookup: `name` is what it is called, `reason` what others share."""
        self._log(logging.WARNING, one_line(line), one_line(name, 200), reason)

    def _log(self, level: int, line: str, name: str, reason: str) -> None:
        now = self._monotonic()
        with self._lock:
            lines = self._due(now)
            if reason in self._repeats:
                self._repeats[reason].add(name)
            else:
                lines.append((level, line))
                if len(self._repeats) >= _MAX_LINES:
                    lines += self._end(next(iter(self._repeats)), now)
                self._repeats[reason] = _Repeats(level, line, now)
        for severity, each in lines:
            self._logger.log(severity, "%s", each)

    def _due(self, now: float) -> list[tuple[int, str]]:
        lines: list[tuple[int, str]] = []
        for reason, repeats in list(self._repeats.items()):
            if now - repeats.since < _REPORT_SECONDS:
                break
            report = self._end(reason, now)
            if report:
                lines += report
                self._repeats[reason] = _Repeats(repeats.level, repeats.line, now)
        return lines

    def _end(self, reason: str, now: float) -> list[tuple[int, str]]:
        repeats = self._repeats.pop(reason)
        return [(repeats.level, repeats.report(now))] if repeats.count else []
