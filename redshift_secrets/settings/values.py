"""Single values of tags and settings: what is accepted, and what it is read as.

Each reader takes the raw value and returns the typed one, or raises `ValueError` with the end of a sentence that
begins with the name of the tag or the setting ("must be ..."). The rules for names are those of GetClusterCredentials:
https://docs.aws.amazon.com/redshift/latest/APIReference/API_GetClusterCredentials.html
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from redshift_secrets.errors import MAKE_A_KEY

T = TypeVar("T")

AUTH_METHODS = ("auto", "db-user", "iam", "secret", "connector")
"""`auto` is resolved when a connection spec is built; see docs/contract.md, "Ways of authenticating"."""

# Compiled when first used: most processes need none of them.
_DB_NAME = r"[A-Za-z][A-Za-z0-9_+.@-]{0,63}"
_DB_GROUP = r"[a-z][a-z0-9_+.@-]{0,63}"
LONGEST_CONN_ID = 250
"""Characters of a conn_id that Airflow can store."""
_CONN_ID = rf"[\w\-.:/]{{1,{LONGEST_CONN_ID}}}"
_TEAM = r"[A-Za-z0-9_-]{1,50}"
# Names without quotes, and those with the signs of a user that session tags allow: https://docs.aws.amazon.com/redshift/latest/dg/r_names.html
_DB_ROLE = r"[^\W\d][\w+.@-]{0,126}"
_VPC_ENDPOINT = r"[A-Za-z0-9][A-Za-z0-9-]{0,29}"
_REGION = r"[a-z]{2,}(-[a-z]+)+-[0-9]+"
_ACCOUNT = r"[0-9]{12}"
# https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateRole.html
_ROLE_ARN = r"arn:aws[a-z-]*:iam::[0-9]{12}:role/([!-~]{1,510}/)?[A-Za-z0-9_+=,.@-]{1,64}"
# https://docs.aws.amazon.com/redshift/latest/mgmt/amazon-redshift-tagging.html
_TAG_CHARACTERS = r"[\w+\-=.:/@ ]"
_TAG_SIGNS = "+ - = . _ : / @"
# Of ASCII letters, digits, - and _ alone: libpq would take a comma for a second host. Names of other alphabets are DNS's business.
_HOST_LABEL = r"(?:[A-Za-z0-9_-]|[^\s\x00-\x7f\u200b-\u200f\u2028-\u202e\u2060-\u206f]){1,63}"
_HOST = rf"(?=.{{1,254}}\Z){_HOST_LABEL}(\.{_HOST_LABEL})*\.?"
_CONTROL_CHARACTERS = r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the known name closest to `name`, else an empty string."""
    found = nearest_name(name, known)
    return f" (did you mean {found!r}?)" if found else ""


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to `name`, `None` where none is close."""
    import difflib  # only mistakes need it

    spelled = {each.lower(): each for each in known}
    found = difflib.get_close_matches(name.lower(), list(spelled), n=1, cutoff=0.6)
    return spelled[found[0]] if found else None


def has_control_characters(raw: str) -> bool:
    """Whether a text has line breaks, NUL, other control characters, or half of a surrogate pair, which no file, no header
    and no AWS API accepts."""
    return re.search(_CONTROL_CHARACTERS, raw) is not None


def text(raw: object) -> str:
    """One line of text that is not empty."""
    if not isinstance(raw, str) or not raw.strip() or has_control_characters(raw.strip()):
        raise ValueError(f"must be one line of text that is not empty, not {raw!r}")
    return raw.strip()


def boolean(raw: object) -> bool:
    """`true` or `false`, as a boolean or as the text that an environment variable or a tag carries."""
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.strip().lower() in ("true", "false"):
        return raw.strip().lower() == "true"
    raise ValueError(f"must be true or false, not {raw!r}")


def external_id(raw: object) -> str:
    """https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html; no message repeats it."""
    if not isinstance(raw, str) or not re.fullmatch(r"[A-Za-z0-9_+=,.@:/-]{2,1224}", raw.strip()):
        raise ValueError("must be a text of 2 to 1224 letters, digits or any of _ + = , . @ : / -")
    return raw.strip()


def whole_number(minimum: int, maximum: int, unit: str = "seconds") -> Callable[[object], int]:
    """A reader for whole numbers between `minimum` and `maximum`, both included."""

    def read(raw: object) -> int:
        try:
            # A boolean is an int in Python, never in a configuration file; 900.0 is 900 in JSON.
            if isinstance(raw, bool) or not isinstance(raw, (int, float, str)) or int(raw) != float(raw):
                raise ValueError
            number = int(raw)
        except (ValueError, OverflowError):
            raise ValueError(f"must be a whole number of {unit}, not {raw!r}") from None
        if not minimum <= number <= maximum:
            raise ValueError(f"must be between {minimum} and {maximum} {unit}, not {number}")
        return number

    return read


duration = whole_number(900, 3600)
"""Seconds for which a credential is valid: the range that all three credential calls of AWS accept."""


def one_of(*choices: str) -> Callable[[object], str]:
    """A reader that accepts one of a few words."""

    def read(raw: object) -> str:
        if isinstance(raw, str) and raw.strip() in choices:
            return raw.strip()
        hint = nearest(raw, choices) if isinstance(raw, str) else ""
        raise ValueError(f"must be one of {', '.join(choices)}, not {raw!r}{hint}")

    return read


auth = one_of(*AUTH_METHODS)


def _named(pattern: str, rule: str) -> Callable[[object], str]:
    def read(raw: object) -> str:
        if isinstance(raw, str) and re.fullmatch(pattern, raw.strip()):
            return raw.strip()
        raise ValueError(f"must be {rule}, not {raw!r}")

    return read


RESERVED = frozenset(
    "public aes128 aes256 all allowoverwrite analyse analyze and any array as asc authorization az64 backup between binary"
    " blanksasnull both bytedict bzip2 case cast check collate column constraint create credentials cross current_date"
    " current_time current_timestamp current_user current_user_id default deferrable deflate defrag delta delta32k desc"
    " disable distinct do else emptyasnull enable encode encrypt encryption end except explicit false for foreign freeze"
    " from full globaldict256 globaldict64k grant group gzip having identity ignore ilike in initially inner intersect"
    " interval into is isnull join language leading left like limit localtime localtimestamp lun luns lzo lzop minus"
    " mostly16 mostly32 mostly8 natural new not notnull null nulls off offline offset oid old on only open or order outer"
    " overlaps parallel partition percent permissions pivot placing primary raw readratio recover references rejectlog"
    " resort respect restore right select session_user similar snapshot some sysdate system table tag tdes text255 text32k"
    " then timestamp to top trailing true truncatecolumns union unique unnest unpivot user using verbose wallet when where"
    " with without".split()
)
"""Names that no database user may have, besides PUBLIC: https://docs.aws.amazon.com/redshift/latest/dg/r_pg_keywords.html"""

_any_db_user = _named(
    _DB_NAME,
    "a database user as AWS accepts it: 1 to 64 letters, digits or any of _ + . @ -, the first a letter, no colon or slash",
)


def db_user(raw: object) -> str:
    """A database user for GetClusterCredentials. AWS adds `IAM:` itself, so the name comes without it."""
    if isinstance(raw, str) and raw.strip().upper().startswith(("IAM:", "IAMA:", "IAMR:")):
        raise ValueError(f"must be the bare database user, AWS adds the prefix: write {raw.strip().split(':', 1)[1]!r}")
    name = _any_db_user(raw)
    if name.lower() in RESERVED:
        raise ValueError(f"must not be {name.upper()}, which AWS reserves")
    return name


database = _named(
    _DB_NAME,
    "a database name as AWS accepts it: 1 to 64 letters, digits or any of _ + . @ -, the first a letter, no colon or slash",
)
db_group = _named(
    _DB_GROUP,
    "a database group as AWS accepts it: 1 to 64 lower-case letters, digits or any of _ + . @ -, the first a letter",
)
conn_id = _named(
    _CONN_ID, "a conn_id that both Airflow and AWS tags accept: 1 to 250 letters, digits or any of _ - . : /"
)
conn_type = one_of("redshift", "postgres")
_team_in_any_case = _named(_TEAM, "an Airflow team name: 1 to 50 letters, digits, _ or -")
region = _named(_REGION, "an AWS region such as eu-west-1")
account = _named(_ACCOUNT, "an AWS account of 12 digits, in quotes so that leading zeros survive")
role_arn = _named(_ROLE_ARN, "the ARN of an IAM role such as arn:aws:iam::123456789012:role/airflow")


def team(raw: object) -> str:
    """The name of an Airflow team, in lower case: Airflow 3.4 folds it to that."""
    return _team_in_any_case(raw).lower()


def endpoint(raw: object) -> str:
    """`default`, `custom-domain`, or `vpc:<name>` of a Redshift-managed VPC endpoint."""
    if isinstance(raw, str):
        value = raw.strip()
        if value in ("default", "custom-domain"):
            return value
        if value.startswith("vpc:") and re.fullmatch(_VPC_ENDPOINT, value[4:]):
            return value
    raise ValueError(f"must be default, custom-domain or vpc:<name of a Redshift-managed VPC endpoint>, not {raw!r}")


def listed(item: Callable[[object], T]) -> Callable[[object], tuple[T, ...]]:
    """A reader for lists: a JSON list, or a text with items separated by spaces or commas, as in tags and variables."""

    def read(raw: object) -> tuple[T, ...]:
        if isinstance(raw, str):
            raw = json_value(raw) if raw.lstrip().startswith("[") else raw.replace(",", " ").split()
        if not isinstance(raw, (list, tuple)):
            raise ValueError(f"must be a list, not {raw!r}")
        # An item that is named twice counts once, at its first place.
        return tuple(dict.fromkeys(item(each) for each in raw))

    return read


db_groups = listed(db_group)
db_role = _named(
    _DB_ROLE,
    "a database role that a session tag can name: 1 to 127 letters, digits or any of _ + . @ -, the first a letter or _, and"
    " no colon, which separates roles there (grant a role such as sys:monitor to one without a colon)",
)

MOST_TAGS = 50
"""On a resource, or of a session."""
LONGEST_TAG_VALUE = 256
"""Characters: https://docs.aws.amazon.com/STS/latest/APIReference/API_Tag.html"""


def db_roles(raw: object) -> tuple[str, ...]:
    """Database roles for the session tag `RedshiftDbRoles`."""
    roles = tuple(listed(db_role)(raw))
    if (length := len(":".join(roles))) > LONGEST_TAG_VALUE:
        raise ValueError(
            f"must fit into one session tag of {LONGEST_TAG_VALUE} characters, and takes {length}: name fewer"
        )
    return roles


def json_value(raw: object) -> object:
    """A value that an environment variable carries as JSON; anything but a text is returned as it is."""
    if not isinstance(raw, str):
        return raw
    try:
        return json.loads(raw)
    except ValueError as error:
        # The text itself is not repeated: `extra` and `config` may hold secrets.
        raise ValueError(f"must be JSON, which it is not: {error}") from None
    except RecursionError:
        raise ValueError("must be JSON with less nesting") from None


def mapping(raw: object) -> dict[str, object]:
    """A JSON object."""
    value = json_value(raw)
    if not isinstance(value, dict):
        raise ValueError(f"must be a JSON object, not a {type(value).__name__}")
    return value


def is_json(value: object) -> bool:
    """Whether a value is JSON: NaN and Infinity, which Python's parser accepts and makes of 1e400, are not."""
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        return False
    return True


def pattern(raw: object) -> re.Pattern[str]:
    """A regular expression, matched from the start and without regard to case, as in the Amazon provider's backends."""
    value = text(raw)
    try:
        return re.compile(value, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"must be a regular expression; {value!r} is not one: {error}") from None


def host_and_port(netloc: str) -> tuple[str, int | None]:
    """Split `host[:port]`; the host may be empty. Raises `ValueError`, which repeats neither, where one is impossible."""
    try:
        parts = urlsplit(f"//{netloc}")
        host = unquote(parts.hostname or "")
    except ValueError:
        host = " "
    if host and ":" not in host and not re.fullmatch(_HOST, host):
        raise ValueError("has a host that is neither a host name nor an IP address")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("has a port that is not a number from 1 to 65535")
    return host, port


def host(raw: object) -> str:
    """A host name or an IP address."""
    netloc = text(raw)
    if netloc.count(":") > 1 and "[" not in netloc:  # without a port, an IPv6 address needs no brackets
        netloc = f"[{netloc}]"
    name, port = host_and_port(netloc)
    if not name or port is not None or re.search(r"[/@?#]", netloc):
        raise ValueError("must be a host name or an IP address alone")
    return name


def port(raw: object) -> int:
    """The number of a TCP port, or its digits."""
    if isinstance(raw, (int, str)) and not isinstance(raw, bool) and re.fullmatch(r"\d{1,5}", str(raw), re.ASCII):
        number = int(raw)
        if 0 < number < 65_536:
            return number
    raise ValueError("must be a number from 1 to 65535")


def tag_key(raw: object) -> str:
    """The key of an AWS tag."""
    if isinstance(raw, str) and re.fullmatch(rf"{_TAG_CHARACTERS}{{1,128}}", raw):
        return raw
    raise ValueError(
        f"must be a tag key as AWS allows it, 1 to 128 letters, digits, spaces or any of {_TAG_SIGNS}, not {raw!r}"
    )


def tag_value(raw: object) -> str:
    """The value of an AWS tag; it may be empty."""
    if isinstance(raw, str) and re.fullmatch(rf"{_TAG_CHARACTERS}{{0,256}}", raw):
        return raw
    raise ValueError(
        f"must be a tag value as AWS allows it, at most 256 letters, digits, spaces or any of {_TAG_SIGNS}, not {raw!r}"
    )


def fernet_keys(raw: object) -> tuple[str, ...]:
    """Keys that seal cached entries, written as in Airflow's `fernet_key`: one, or several separated by commas, of which
    the first one seals. No message repeats the text."""
    keys = tuple(key.strip() for key in raw.split(",")) if isinstance(raw, str) else ()
    try:
        good = bool(keys) and all(len(key) == 44 and len(base64.urlsafe_b64decode(key)) == 32 for key in keys)
    except ValueError:
        good = False
    if not good:
        raise ValueError(f"must be one or more Fernet keys separated by commas; {MAKE_A_KEY}")
    return keys


_NOT_IN_EXTRA = frozenset(
    "host hostaddr port user username login password database dbname schema dsn uri service servicefile passfile"
    " unix_sock iam db_user db_groups auto_create cluster_identifier is_serverless serverless_work_group"
    " serverless_acct_id endpoint_url credentials_provider access_key_id secret_access_key session_token profile auth_profile region".split()
)


SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
"""From the one that protects nothing to the one that checks everything:
https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION"""

sslmode = one_of(*reversed(SSL_MODES))


def sslrootcert(raw: object) -> str:
    """The path of a file with trusted certificates, or `system`, by which libpq means those of its OpenSSL. Whether the file is
    there is not looked up: it is read where the connection is used."""
    path = text(raw)
    if path != "system" and not path.startswith("/"):
        raise ValueError(f"must be system or the absolute path of a file, not {path!r}")
    return path


def extra_key(raw: object) -> str:
    """A key of a connection's `extra`. Clients pass `extra` to their drivers, where it overrides the connection's own
    fields: a tag must not be able to send the password to another host or to log in as another user."""
    key = text(raw)
    if key.lower() in _NOT_IN_EXTRA:
        raise ValueError(f"must not contain {key!r}, which would change where or as whom a driver connects")
    if key.lower() in ("ssl", "sslmode", "sslrootcert"):
        raise ValueError(
            f"must not contain {key!r}: the settings sslmode and sslrootcert say how a driver checks whom it connects to"
        )
    return key


def extra(raw: object) -> dict[str, object]:
    """The `extra` of every connection: a JSON object."""
    values = mapping(raw)
    for key, value in values.items():
        if not is_json(value):
            raise ValueError(f"has a value for {key!r} that JSON cannot hold, such as NaN or 1e400")
    return {extra_key(key): value for key, value in values.items()}


def scalar(raw: str) -> object:
    """One value of a connection's `extra` from a tag: `true`, `false` and whole numbers are what they look like."""
    value = raw.strip()
    if value in ("true", "false"):
        return value == "true"
    if re.fullmatch(r"-?(0|[1-9]\d{0,17})", value):
        return int(value)
    return value
