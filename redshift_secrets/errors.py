"""What can go wrong, in words for the user who reads the task log.

Every message names the thing, says what is wrong with it and what to do. No message carries a secret.
Tags, AWS and servers put words of theirs into it, so it is one line of bounded length, without control characters.
All arguments are positional, so that an error can be copied and raised again in another thread.
"""

from __future__ import annotations

import copy
import errno
import json
from collections.abc import Sequence


class RedshiftSecretsError(Exception):
    """Every error of this package."""

    host_only = True
    """Whether it may concern this host alone, so that others have to find out for themselves."""

    def __str__(self) -> str:
        return one_line(self._text())

    def _text(self) -> str:
        return super().__str__()


class SettingsError(RedshiftSecretsError):
    """`backend_kwargs` says something unknown or impossible; `problems` lists everything that is wrong, not only the
    first thing."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        lines = "\n".join(f"  - {one_line(problem)}" for problem in self.problems)
        return f"Invalid backend_kwargs for redshift-secrets:\n{lines}"


MAKE_A_KEY = "make one with: python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"
NO_REDIS_KEY = (
    "cache.redis_url needs a key, since nothing leaves a host unsealed: set cache.key, or [core] fernet_key of Airflow, to the"
    f" same value on every host; {MAKE_A_KEY}"
)


class CannotServeError(RedshiftSecretsError):
    """A managed conn_id cannot be served now; Airflow must not look for it anywhere else.

    `warehouse_arn` and `cause` say of which warehouse and why, where that is known.
    """

    warehouse_arn: str | None = None
    cause: Exception | None = None


class PerDagCredentialsError(RedshiftSecretsError):
    """There is one credential for each DAG, and no DAG was named."""


GONE = frozenset(
    {
        "ClusterNotFound",
        "ClusterNotFoundFault",
        "ResourceNotFoundException",
        "EndpointNotFound",
        "EndpointNotFoundFault",
    }
)
DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AccessDeniedFault",
        "AuthorizationErrorException",
        "NotAuthorized",
        "UnauthorizedOperation",
    }
)

_OF_WAREHOUSES = ("redshift", "secretsmanager:")
"""Whatever else is asked, AWS IAM Identity Center for one, is asked about the caller."""

ENDLESS_PAGING = "EndlessPaging"


CREDENTIALS_FROM = "the AWS credentials of this process, from "
"""What precedes the name of a source of credentials that has not answered yet."""


class AwsError(RedshiftSecretsError):
    """A call to AWS did not give an answer that can be used.

    `code` is AWS's own error code (`AccessDenied`, `ThrottlingException`, ...) or, where AWS did not answer at all,
    one of `NoCredentials`, `Unreachable`, `TimedOut`, `Misconfigured`. `host_only` says that the cause is this host's: its
    network (DNS, TLS, a proxy, a route), its clock or its AWS credentials. `request_id` is AWS's, where it has answered.
    """

    def __init__(
        self,
        operation: str,
        resource: str,
        identity: str,
        code: str,
        reason: str,
        advice: str,
        host_only: bool = False,
        request_id: str | None = None,
    ) -> None:
        super().__init__(operation, resource, identity, code, reason, advice, host_only, request_id)
        self.operation = operation
        self.resource = resource
        self.identity = identity
        self.code = code
        self.reason = reason
        self.advice = advice
        self.host_only = host_only
        self.request_id = request_id

    @property
    def is_gone(self) -> bool:
        """Whether AWS says that the warehouse does not exist."""
        return self.code in GONE and self.operation.startswith(_OF_WAREHOUSES)

    @property
    def is_denied(self) -> bool:
        """Whether a policy does not allow the call, or the assumption of the role that was to make it."""
        return self.code in DENIED

    def _text(self) -> str:
        return (
            f"{self.operation} on {self.resource} as {self.identity} failed ({self.code}): {self.reason} {self.advice}"
        )


class DeadlineError(RedshiftSecretsError):
    """A refresh is still running when the lookup that waits for it has to end. `unanswered` says who has not answered to
    whom, and what to do."""

    def __init__(self, what: str, seconds: float, unanswered: str = "") -> None:
        super().__init__(what, seconds, unanswered)
        self.what = what
        self.seconds = seconds
        self.unanswered = unanswered

    def _text(self) -> str:
        late = f"Timed out after {self.seconds:g} s (aws_timeout_seconds) waiting for {self.what}"
        if not self.unanswered:
            return f"{late}; the refresh continues in the background."
        return f"{late}: {self.unanswered}. The refresh continues in the background."


class RefreshNotStartedError(RedshiftSecretsError):
    """There is no thread to refresh `what` in; `reason` is what the system says."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(what, reason)
        self.what = what
        self.reason = reason

    def _text(self) -> str:
        return f"{self.what} cannot be refreshed: {self.reason}. Raise the limit of threads for this user or container."


class TooManyWaitingError(RedshiftSecretsError):
    """`limit` lookups of this server already wait for AWS, so that one more would take a thread from its other requests."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def _text(self) -> str:
        return f"{self.limit} lookups of this API server already wait for AWS, and no more do at a time. Try again in a moment."


class CallerChangedError(RedshiftSecretsError):
    """This process calls AWS as another identity than when the lookup began."""

    def __init__(self) -> None:
        super().__init__()

    def _text(self) -> str:
        return "this process now calls AWS as another AWS identity than when the lookup began. Look it up again."


class CatalogUnavailableError(RedshiftSecretsError):
    """No region of no account could be listed, and none was ever listed before."""

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__(errors)
        self.errors = tuple(errors)

    def _text(self) -> str:
        return f"no warehouse could be listed: {join_messages(self.errors)}"


class ExhaustedError(RedshiftSecretsError):
    """This process, or its host, has no more of something: `what` is a key of `_REMEDIES`."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def _text(self) -> str:
        return f"this process can have no more {self.what}. {_REMEDIES.get(self.what, '')}"


_REMEDIES = {
    "file descriptors": "Raise their limit (ulimit -n, LimitNOFILE of the service), or look for what leaves files and sockets open.",
    "memory": "Give the process or its container more memory, or run fewer tasks at a time.",
    "threads": "Raise the limit of threads or processes for this user or container (ulimit -u, pids limit).",
    "temporary files": "Mount a folder that it may write to at /tmp, or set TMPDIR to one: Airflow needs it.",
}


class UnexpectedError(RedshiftSecretsError):
    """An exception from outside this package. Its text may hold anything, so only its kind is kept."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind

    def _text(self) -> str:
        return f"an unexpected {self.kind}. This is a bug in redshift-secrets or a misconfiguration; please report it"


def known_error(error: BaseException) -> RedshiftSecretsError:
    """Return an error of this package as it is, and any other one without its text."""
    if isinstance(error, RedshiftSecretsError):
        return error
    return exhausted_error(error) or UnexpectedError(type(error).__name__)


def exception_chain(error: BaseException) -> list[BaseException]:
    """Return an error, and the errors that it was raised for or keeps as libraries do, in `reason` or among its arguments."""
    chain: list[BaseException] = []
    found: list[object] = [error]
    while found and len(chain) < 20:
        each = found.pop(0)
        if not isinstance(each, BaseException) or any(each is known for known in chain):
            continue
        chain.append(each)
        kwargs = getattr(each, "kwargs", None)
        kept = [kwargs.get("error")] if isinstance(kwargs, dict) else []
        found += [*kept, getattr(each, "reason", None), *each.args, each.__cause__, each.__context__]
    return chain


def exhausted_error(error: BaseException) -> ExhaustedError | None:
    """Return what the process has run out of, `None` where the error says no such thing."""
    for each in exception_chain(error):
        number = each.errno if isinstance(each, OSError) else None
        if number in (errno.EMFILE, errno.ENFILE):
            return ExhaustedError("file descriptors")
        if isinstance(each, MemoryError) or number == errno.ENOMEM:
            return ExhaustedError("memory")
        if isinstance(each, RuntimeError) and "can't start new thread" in str(each):
            return ExhaustedError("threads")
        if isinstance(each, FileNotFoundError) and "No usable temporary directory" in str(each):  # of Python's tempfile
            return ExhaustedError("temporary files")
    return None


def cause_of(error: Exception) -> tuple[str, ...]:
    """Return what errors with the same cause have in common, so that it is told once."""
    if not isinstance(error, AwsError):
        return (
            type(error).__name__,
            str(getattr(error, "kind", "")),
            str(getattr(error, "what", "")) * isinstance(error, ExhaustedError),
        )
    cause = ("AwsError", error.code)
    if error.operation.startswith("sts:AssumeRole"):
        return *cause, error.operation, error.resource
    # What may not be done, or is no answer, is a matter of each operation; the network, the clock and the credentials are not.
    return cause if error.host_only and error.code != "UnreadableResponse" else (*cause, error.operation)


def copy_for_reraise(error: Exception) -> Exception:
    """Return a copy of `error` to raise in another thread, so that threads do not share one traceback."""
    try:
        return copy.copy(error)
    except Exception:  # an error of another package may not be copyable: then it is shared after all
        return error


def one_line(text: str, limit: int = 4000) -> str:
    """Return a text from outside on one line of at most `limit` characters, without control characters."""
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else " " for letter in text)
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def join_messages(messages: Sequence[str]) -> str:
    """Return several messages as one, with a full stop at its end only."""
    return "; ".join([*(each.removesuffix(".") for each in messages[:-1]), *messages[-1:]])


def error_to_json(error: Exception) -> str:
    """Encode an error for another process."""
    known = known_error(error)
    return json.dumps([type(known).__name__, known.args])


def error_from_json(text: str) -> RedshiftSecretsError | None:
    """Decode what `error_to_json` encoded; `None` for anything else."""
    try:
        name, arguments = json.loads(text)
        kind = {known.__name__: known for known in RedshiftSecretsError.__subclasses__()}[name]
        return kind(*arguments)
    except (KeyError, TypeError, ValueError):
        return None
