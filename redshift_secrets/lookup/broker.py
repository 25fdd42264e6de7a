"""conn_id in, the fields of a Connection out. Follows docs/contract.md, "Looking a conn_id up"."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from redshift_secrets.cache import forks, get_logger
from redshift_secrets.cache.entry import Entry
from redshift_secrets.cache.refresh import Refresher
from redshift_secrets.cache.workers import Deadline, Lookup, MustWait
from redshift_secrets.errors import (
    AwsError,
    CannotServeError,
    RedshiftSecretsError,
    TooManyWaitingError,
    cause_of,
    join_messages,
    known_error,
    one_line,
)
from redshift_secrets.lookup import connection_fields
from redshift_secrets.lookup.catalog import Catalog, Claims, WarehouseLister
from redshift_secrets.lookup.credential_source import default_region
from redshift_secrets.lookup.credentials import Credentials, Minter
from redshift_secrets.lookup.metrics import AGE_AT_USE, LOOKUPS, Metrics, NoMetrics
from redshift_secrets.lookup.reasons import ErrorLog, not_ready, refusal, state
from redshift_secrets.model import ConnectionFields, ConnectionSpec, Credential, MintRequest, TaskContext, reveal
from redshift_secrets.settings import Settings
from redshift_secrets.settings.db_user import render

if TYPE_CHECKING:
    from redshift_secrets.lookup.audit import Audit
    from redshift_secrets.lookup.inventory import Inventory

log = get_logger(__name__)

T = TypeVar("T")

_MAX_ANSWERS_BYTES = 32 * 2**20
_ANSWER_BYTES = 1_000
"""What an answer takes beside its texts."""
_MAX_REPORTED = 1_000
_WHERE = {"process": "memory", "host": "the host store", "fleet": "the fleet store", "aws": "AWS"}
_Key = tuple[str, str | None, TaskContext | None]


class Aws(WarehouseLister, Minter, Protocol):
    """Everything that lookups need of AWS."""


class Answer(Struct, frozen=True):
    """What a lookup returned, and until when the next one may return the same: in seconds since the epoch, and on the
    monotonic clock, since the other one may be set back. For a connection, its warehouse and its credential if it has one."""

    fields: ConnectionFields | None
    valid_until: float
    warehouse_arn: str = ""
    credential: Credential | None = None
    valid_until_monotonic: float = 0.0
    size: int = 0
    """How many bytes it takes to keep it, roughly."""


class Broker:
    """Answers lookups for one configuration and one caller. Safe among threads, and in the child of a fork.

    `mask` is called with every password, and when it expires, the moment it exists. `airflow_cache_ttl_seconds` is how
    long Airflow may keep an answer, so that a password it gets is valid at least as long.
    """

    def __init__(
        self,
        settings: Settings,
        aws: Aws,
        refresher: Refresher,
        *,
        mask: Callable[[str, float], None],
        metrics: Metrics,
        audit: Audit | None = None,
        airflow_cache_ttl_seconds: int = 0,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._refresher = refresher
        self._metrics = metrics
        self._counts = not isinstance(metrics, NoMetrics)
        self._audit = audit
        self._clock = refresher.clock
        self._catalog = Catalog(settings, aws, refresher, metrics, audit)
        self._credentials = Credentials(settings, aws, refresher, metrics, mask, airflow_cache_ttl_seconds, audit)
        self.aws = aws
        """What this broker calls AWS with: it has read the models of AWS's services, which takes others of this process a second."""
        self.errors = ErrorLog(log, refresher.monotonic)
        """Why lookups failed, for whoever has to log it."""
        refresher.report = self._report_refresh
        self._answers: dict[_Key, Answer] = {}
        self._answers_size = 0
        self._answers_changed = threading.Lock()
        self.reset_after_fork()
        forks.reset_in_child(self)

    def reset_after_fork(self) -> None:
        """Called in the child, where no lookup is waiting, and whose own log has no line yet."""
        if self._answers_changed.locked():
            self._answers, self._answers_size = {}, 0  # a thread was in the middle of a change
        self._answers_changed = threading.Lock()
        self._waiting_changed = threading.Lock()
        self._waiting = 0
        self._reported: set[tuple[str, str]] = set()
        self._served: dict[str, tuple[str | None, float]] = {}

    def connection(
        self,
        conn_id: str,
        team_name: str | None = None,
        task: TaskContext | None = None,
        *,
        lookup: Lookup | None = None,
    ) -> ConnectionFields | None:
        """Return the connection, or `None` for what is not managed. `task` is only used where the setting `db_user` names
        a database user for each DAG. Who passes the `lookup` learns from it which tier has answered.

        Raises `CannotServeError` for a managed conn_id that cannot be served now. Ends within `aws_timeout_seconds`.
        """
        if not self._settings.looks_up(conn_id):
            return None
        known = self.remembered(conn_id, team_name, task)
        return known.fields if known is not None else self.answer(conn_id, team_name, task, lookup=lookup)

    def answer(
        self,
        conn_id: str,
        team_name: str | None,
        task: TaskContext | None,
        *,
        lookup: Lookup | None = None,
        max_waiting: Callable[[], int | None] = lambda: None,
    ) -> ConnectionFields | None:
        """Return and raise as `connection`, for a conn_id that is looked up and not remembered.

        While as many lookups wait for AWS as `max_waiting` returns, a further one does not: it gets what is stale, or is refused.
        """
        lookup = lookup or self.lookup()
        if self._waiting and (most := max_waiting()) is not None and self._waiting >= most:
            lookup.hurry = TooManyWaitingError(most)  # before it begins what it could not wait for
        with _failing_closed(lookup):
            while True:
                try:
                    return self.attempt(conn_id, team_name, task, lookup)
                except MustWait as must:
                    self._wait(must, lookup, max_waiting())

    def remembered(self, conn_id: str, team_name: str | None, task: TaskContext | None) -> Answer | None:
        """Return the last answer if it still holds, without any I/O but a look for flushes and the line of an audit."""
        answer = self.peek(conn_id, team_name, task)
        if answer is not None:
            if answer.fields is not None and conn_id not in self._served:
                self._log_served(answer, answer.fields, "process")  # its parent has looked it up, and has another log
            if self._counts or self._audit is not None:
                self._record(answer, "process", team_name)
        return answer

    def peek_without_io(self, conn_id: str, team_name: str | None, task: TaskContext | None) -> Answer | None:
        """Return what `peek` would, and `None` also where that would ask the fleet store for flushes."""
        return None if self._refresher.asks_fleet else self.peek(conn_id, team_name, task)

    def peek(self, conn_id: str, team_name: str | None, task: TaskContext | None) -> Answer | None:
        """Return what `remembered` would, for which this does not count as a lookup."""
        answer = self._answers.get((conn_id, team_name, task))
        if (
            answer is None
            or self._clock() >= answer.valid_until
            or self._refresher.monotonic() >= answer.valid_until_monotonic
        ):
            return None
        return None if self._forget_if_flushed() else answer

    def answered_by(self, lookup: Lookup, made_at: float, began_at: float) -> str:
        """Return the tier that has answered a lookup, which began at a time, with what was made at another time: `process`, `host`,
        `fleet` or `aws`. Where it waited for a refresh, that may have found in a store what is older than the lookup."""
        if lookup.tier == "aws" and made_at < began_at:
            return self._refresher.farthest_tier
        return lookup.tier

    def minted_at(self, conn_id: str, team_name: str | None, task: TaskContext | None) -> float:
        """Return when the credential of the last answer was minted, in seconds since the epoch; now, where there is none."""
        answer = self._answers.get((conn_id, team_name, task))
        return answer.credential.minted_at if answer is not None and answer.credential is not None else self._clock()

    def attempt(
        self, conn_id: str, team_name: str | None, task: TaskContext | None, lookup: Lookup
    ) -> ConnectionFields | None:
        """Look a conn_id up that is not remembered. Raises `MustWait` where it has to wait: then it is to be tried again with
        the same `lookup`."""
        with _failing_closed(lookup):
            if lookup.memory is None:
                self._forget_if_flushed()
                lookup.memory = self._answers
            try:
                answer = self._answer(conn_id, team_name, task, lookup)
            except CannotServeError:
                self._count("refused", lookup.tier)
                raise
            left = answer.valid_until - self._clock()
            if left > 0:
                until = self._refresher.monotonic() + left
                size = _size(conn_id, team_name, task, answer.fields)
                answer = replace(answer, valid_until_monotonic=until, size=size)
                self._remember((conn_id, team_name, task), answer, lookup.memory)
            if answer.fields is not None:
                self._log_served(answer, answer.fields, lookup.tier)
            self._record(answer, lookup.tier, team_name)
            return answer.fields

    def lookup(self) -> Lookup:
        """Return a lookup that begins now."""
        return Lookup(Deadline(self._settings.aws_timeout_seconds, self._refresher.monotonic))

    def now(self) -> float:
        """Return seconds since the epoch, on the clock that decides what is still valid."""
        return self._clock()

    @property
    def inventory(self) -> Inventory:
        """What commands and the page see and drop of the catalog and the caches."""
        from redshift_secrets.lookup.inventory import Inventory  # no task needs it

        return Inventory(self._settings, self._catalog, self._credentials, self._begin)

    def _begin(self) -> Lookup:
        """Return a lookup that begins now, with nothing of before a flush."""
        self._forget_if_flushed()
        return self.lookup()

    def _wait(self, must: MustWait, lookup: Lookup, max_waiting: int | None) -> None:
        """Wait for what the lookup has to wait for, or have it answer without."""
        with self._waiting_changed:
            if max_waiting is not None and self._waiting >= max_waiting:
                lookup.hurry = TooManyWaitingError(max_waiting)
                return
            self._waiting += 1
        try:
            must.wait()
        finally:
            with self._waiting_changed:
                self._waiting -= 1

    def _record(self, answer: Answer, tier: str, team_name: str | None) -> None:
        """Count a lookup that is answered, and write down a connection, which changes no answer either."""
        self._count("missed" if answer.fields is None else "found", tier, answer.credential)
        if self._audit is not None and answer.fields is not None:
            with suppress(Exception):
                self._audit.served(answer.fields, answer.warehouse_arn, answer.credential, tier, team_name)

    def _log_served(self, answer: Answer, fields: ConnectionFields, tier: str) -> None:
        """Log once for each credential of a connection what is handed out; changes no answer."""
        expires_at = answer.credential.expires_at if answer.credential is not None else float("inf")
        if self._served.get(fields.conn_id) == (fields.login, expires_at):
            return
        if len(self._served) >= _MAX_REPORTED:
            self._served.clear()
        self._served[fields.conn_id] = fields.login, expires_at
        left = "the driver mints for itself"
        if answer.credential is not None:
            left = f"valid for {(expires_at - self._clock()) / 60:.0f} min"
        where, user = fields.description.partition(": ")[0], fields.login or "(IAM identity)"
        log.info(
            "connection %r is served: %s",
            fields.conn_id,
            one_line(f"{where}, user {user}, from {_WHERE[tier]}, {left}"),
        )

    def _remember(self, key: _Key, answer: Answer, memory: dict[_Key, Answer]) -> None:
        """Keep an answer, instead of the oldest ones where there is no room; but not where a store was flushed since the lookup
        began, which had this `memory` then. To read one takes no lock."""
        if answer.size > _MAX_ANSWERS_BYTES:
            return
        with self._answers_changed:
            if self._answers is not memory:
                return
            before = self._answers.pop(key, None)
            self._answers_size += answer.size - (before.size if before is not None else 0)
            while self._answers_size > _MAX_ANSWERS_BYTES:
                self._answers_size -= self._answers.pop(next(iter(self._answers))).size
            self._answers[key] = answer

    def _forget_if_flushed(self) -> bool:
        """Forget what this process remembers if a store was flushed, and return whether it was."""
        flushed = self._refresher.forget_if_flushed()
        if flushed:
            with self._answers_changed:
                self._answers, self._answers_size = {}, 0
        return flushed

    def _count(self, outcome: str, tier: str, credential: Credential | None = None) -> None:
        """Count a lookup, which changes no answer whatever becomes of it."""
        if self._counts:
            with suppress(Exception):
                self._metrics.incr(LOOKUPS, tags={"outcome": outcome, "tier": tier})
                if credential is not None:
                    self._metrics.timing(AGE_AT_USE, timedelta(seconds=self._clock() - credential.minted_at))

    def _answer(self, conn_id: str, team_name: str | None, task: TaskContext | None, lookup: Lookup) -> Answer:
        claims = self._claims(conn_id, lookup)
        if not claims.specs:
            if not claims.unseen and not self._settings.manages(conn_id):
                return Answer(None, claims.stale_at)
            from redshift_secrets.lookup.deciding import nobody_claims  # most ids that Airflow asks for end above

            return Answer(None, nobody_claims(conn_id, claims, self._settings, self._report))
        lookup.claimed = claims.specs[0]
        # A team's connection answers only to that team; to others it is neither missing nor refused.
        team = team_name.lower() if team_name is not None else None
        specs = [spec for spec in claims.specs if spec.team is None or spec.team == team]
        if not specs:
            lookup.claimed = None
            return Answer(None, 0 if claims.unseen else claims.stale_at)
        if claims.unseen or len(specs) > 1:
            from redshift_secrets.lookup.deciding import who_has_it  # of most conn_ids there is no doubt

            spec = who_has_it(specs, claims.unseen, self._settings, self._report)
        else:
            spec = specs[0]
        for warning in spec.warnings:
            # The task's log has what is odd about the tags.
            self._report(logging.WARNING, conn_id, warning)
        # Nothing decided on half of the knowledge is kept.
        known_until = 0 if claims.unseen else claims.stale_at
        return self._serve(spec, task or TaskContext(team=team_name), known_until, lookup)

    def _claims(self, conn_id: str, lookup: Lookup) -> Claims:
        claims = self._catalog.find(conn_id, lookup)
        if claims.specs or claims.unseen or not self._settings.manages(conn_id):
            return claims
        return self._catalog.find_missing(conn_id, claims, lookup)

    def _report_refresh(self, what: str, how: str, error: RedshiftSecretsError) -> None:
        self.errors.warning(f"{what}{how}: {error}", what, f"{how.partition(' for ')[0]} {cause_of(error)}")

    def _report(self, level: int, conn_id: str, what: str) -> None:
        """Log something of a connection that is looked up, once in this process."""
        if (conn_id, what) not in self._reported:
            if len(self._reported) >= _MAX_REPORTED:
                self._reported.clear()
            self._reported.add((conn_id, what))
            log.log(level, "connection %r: %s" if conn_id else "%s%s", conn_id, what)

    def _serve(self, spec: ConnectionSpec, task: TaskContext, known_until: float, lookup: Lookup) -> Answer:
        ready = self._ready(spec, lookup)
        if ready is not spec:
            known_until = 0  # the catalog is behind: what AWS was asked for directly is not kept
        address = ready.address
        if address is None:
            raise refusal(ready, f"{ready.warehouse} has no endpoint {ready.endpoint!r} at this moment")
        ready = _with_db_user(task, ready)
        if ready.auth == "connector":
            fields = connection_fields.for_connector(ready, address, default_region(self._environ))
            return Answer(fields, known_until, ready.warehouse.arn)
        entry = self._credential(ready, lookup)
        fields = connection_fields.with_credential(ready, address, entry.value, entry.wait_at)
        return Answer(fields, min(known_until, entry.stale_at), ready.warehouse.arn, entry.value)

    def _ready(self, spec: ConnectionSpec, lookup: Lookup) -> ConnectionSpec:
        """Return the spec of a warehouse that accepts logins; raises `CannotServeError` when it does not, or when the tags
        of the spec cannot work. Before it is refused for its state, AWS is asked whether that still holds."""
        if spec.errors:
            raise refusal(spec, join_messages(spec.errors))
        if spec.warehouse.can_serve:
            return spec
        try:
            spec = self._catalog.describe(spec, lookup)
        except MustWait:
            raise
        except Exception as error:
            self._list_again_if_gone(spec, error, self._catalog.failing_since(spec))
            seen = f"{spec.warehouse} was last seen {state(spec)}"
            raise refusal(spec, f"{seen}, and: {known_error(error)}", error) from None
        refused = not_ready(spec)
        if refused is not None:
            raise refused
        return spec

    def _credential(self, spec: ConnectionSpec, lookup: Lookup) -> Entry[Credential]:
        """Return a valid credential for a spec that mints; raises `CannotServeError`."""
        request = MintRequest.of(spec)
        try:
            return self._credentials.get(request, spec.conn_id, lookup)
        except MustWait:
            raise
        except Exception as error:
            self._list_again_if_gone(spec, error, self._credentials.failing_since(request))
            raise refusal(spec, str(known_error(error)), error) from None

    def _list_again_if_gone(self, spec: ConnectionSpec, error: Exception, since: float) -> None:
        """Have the catalog refreshed where AWS says, since then, that a warehouse does not exist: it was listed."""
        if isinstance(error, AwsError) and error.is_gone:
            self._catalog.refresh_behind(spec, since)


def _size(conn_id: str, team_name: str | None, task: TaskContext | None, fields: ConnectionFields | None) -> int:
    texts = [conn_id, team_name, task.dag_id if task else None]
    if fields is not None:
        texts += [
            fields.host,
            fields.login,
            fields.password,
            fields.description,
            *map(str, reveal(fields.extra).values()),
        ]
    return _ANSWER_BYTES + sum(map(sys.getsizeof, texts))


@contextmanager
def _failing_closed(lookup: Lookup) -> Iterator[None]:
    """Refuse, whatever goes wrong, once the lookup has a claim: nobody may fall through to an old password."""
    try:
        yield
    except (CannotServeError, MustWait):
        raise
    except Exception as error:
        if lookup.claimed is None:
            raise
        raise refusal(lookup.claimed, str(known_error(error)), error) from None


def _with_db_user(task: TaskContext, spec: ConnectionSpec) -> ConnectionSpec:
    if not spec.per_dag:
        return spec
    try:
        return replace(spec, db_user=render(str(spec.db_user), task))
    except ValueError as error:
        raise refusal(spec, f"{spec.sources['db_user']} {error}") from None
