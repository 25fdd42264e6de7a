"""The caller: the AWS identity of this process. What is cached for one caller and one configuration is never found by
another.

On one host callers are distinguished without asking AWS, which would cost more than the cache saves: by everything that
decides which credentials botocore's default chain finds. Two sources do not show in files and variables who they are for: a
program (`credential_process`), and the metadata service, whose role can be exchanged. For those AWS is asked, and so it is
for what hosts share: two of them may have the same environment and different instance roles.
https://boto3.amazonaws.com/v1/documentation/api/latest/guide/credentials.html
"""

from __future__ import annotations

import base64
import configparser
import functools
import hashlib
import os
import pwd
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec.json
from msgspec import Struct, field
from msgspec.structs import asdict

from redshift_secrets.model import HiddenMapping
from redshift_secrets.settings.settings import Settings

Read = Callable[[str], bytes]
"""Returns the content of the file at a path, or raises `OSError`."""

Section = Mapping[str, str]

_OPTIONS = (
    "role_arn", "source_profile", "credential_source", "web_identity_token_file", "sso_role_name", "sso_account_id",
    "sso_session", "sso_start_url", "login_session", "region",
)  # fmt: skip
_SECRETS = ("aws_access_key_id", "aws_secret_access_key", "credential_process")
"""Options of which only their presence is kept in memory."""
_MAX_PARSED = 8
_PROXIES = ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY")
"""botocore asks the metadata service through a proxy, too."""
_LOGIN_ROTATES = ("accessToken", "refreshToken")
"""What botocore writes anew into the file of a login; the key that the login was made with stays."""


def read_file(path: str) -> bytes:
    """Return the content of a regular file; raises `OSError`. Anything else, a pipe for one, could keep the reader waiting."""
    if not os.path.isfile(path):
        raise FileNotFoundError(path)
    with open(path, "rb") as file:
        return file.read()


def settings_fingerprint(settings: Settings) -> str:
    """Return a digest that differs for settings that differ in anything that decides an answer from AWS."""
    fields = asdict(settings)
    del fields["cache"], fields["audit"], fields["fallback"]
    return fingerprint(fields)


def caller_fingerprint(environ: Mapping[str, str], read: Read = read_file) -> str:
    """Return a digest that differs for processes of this host that AWS may know as different callers, unless they have
    their credentials from a program or the metadata service.

    `read` returns the content of the file at a path or raises `OSError`.
    """
    files = CredentialFiles(environ, read)
    # By name: `os.environ` decodes each value that it is asked for.
    variables = {name: environ[name] for name in environ if name.startswith("AWS_")}
    proxies = [environ.get(name) for name in _PROXIES]
    rest = fingerprint([variables, proxies, files.digests, _tokens(environ, files)])
    return f"{rest} {fingerprint(_logins(environ, files))}"


def without_logins(caller: str) -> str:
    """Return the part of a `caller_fingerprint` that stays when botocore renews the token of a login in the middle of a call."""
    return caller.partition(" ")[0]


def fingerprint(content: object) -> str:
    """Return a digest of plain data, structs and patterns, which identifies keys in it without revealing them."""
    return hashlib.sha256(msgspec.json.encode(content, enc_hook=_plain, order="deterministic")).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, re.Pattern):
        return value.pattern
    if isinstance(value, HiddenMapping):
        return dict(value)
    return str.__str__(value) if isinstance(value, str) else str(value)  # a text that is hidden shows `***` for itself


# --- tokens and logins


class _Claims(Struct):
    """What of a token AWS makes an identity and its session tags of."""

    sub: str
    iss: Any = None
    aud: Any = None
    tags: Any = field(default=None, name="https://aws.amazon.com/tags")
    source_identity: Any = field(default=None, name="https://aws.amazon.com/source_identity")


_UNREADABLE = (ValueError, msgspec.MsgspecError, RecursionError)
"""What decoding raises: msgspec's own errors are `ValueError` in its newer versions alone, and the last is for what is nested too deeply."""


def _tokens(environ: Mapping[str, str], files: CredentialFiles) -> list[Any]:
    """Return who each token is for that may be presented for credentials: the tokens themselves are replaced every hour."""
    paths = [environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"), environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")]
    paths += [profile.get("web_identity_token_file") for profile in files.profiles]
    return [[path, _subject(files.content(path))] for path in dict.fromkeys(paths) if path]


def _subject(token: bytes | None) -> object:
    """Return the subject of a JSON Web Token; of anything else a digest."""
    try:
        _, payload, _ = (token or b"").split(b".")
        return msgspec.json.decode(base64.urlsafe_b64decode(payload + b"=="), type=_Claims)
    except _UNREADABLE:
        return digest(token)


def _logins(environ: Mapping[str, str], files: CredentialFiles) -> list[Any]:
    """Return what identifies whoever has logged in with `aws sso login` or `aws login`, for each profile with such a login."""
    sso = {profile.get("sso_session") or profile.get("sso_start_url") for profile in files.profiles}
    logins = {profile.get("login_session") for profile in files.profiles}
    found: list[Any] = []
    for name in sorted(filter(None, sso)):
        # botocore names the file so.
        file = f"~/.aws/sso/cache/{hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()}.json"
        found.append([name, digest(files.content(expand_user(file, environ)))])
    for name in sorted(filter(None, logins)):
        folder = expand(environ.get("AWS_LOGIN_CACHE_DIRECTORY", "~/.aws/login/cache"), environ)
        content = files.content(os.path.join(folder, f"{hashlib.sha256(name.encode()).hexdigest()}.json"))
        try:
            login = msgspec.json.decode(content or b"", type=dict[str, Any])
        except _UNREADABLE:
            found.append([name, digest(content)])
        else:
            found.append([name, {key: value for key, value in login.items() if key not in _LOGIN_ROTATES}])
    return found


# --- files


class CredentialFiles:
    """The files in which botocore looks for credentials, as `environ` names them."""

    def __init__(self, environ: Mapping[str, str], read: Read) -> None:
        self._environ = environ
        self._read = read
        places = {
            "config": environ.get("AWS_CONFIG_FILE", "~/.aws/config"),
            "credentials": environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        }
        # botocore reads the second of boto's own files where the first one has no credentials.
        boto = [environ["BOTO_CONFIG"]] if "BOTO_CONFIG" in environ else ["/etc/boto.cfg", "~/.boto"]
        places |= {f"boto {number}": place for number, place in enumerate(boto)}
        self._contents = {name: self.content(expand(place, environ)) for name, place in places.items()}
        if "AWS_CREDENTIAL_FILE" in environ:
            self._contents["ec2"] = self.content(expand_user(environ["AWS_CREDENTIAL_FILE"], environ))
        self.digests = {name: digest(content) for name, content in self._contents.items()}
        self.profiles = [section for name in ("config", "credentials") for section in self.sections(name).values()]

    def content(self, path: str) -> bytes | None:
        """Return the content of a file, `None` where it cannot be read."""
        try:
            return self._read(path)
        except OSError:
            return None

    def sections(self, name: str) -> Mapping[str, Section]:
        """Return those options of a file that matter here, by section; nothing for one that botocore cannot read either."""
        content = self._contents.get(name)
        return _sections(self.digests[name], content) if content else {}

    @property
    def ec2_has_key(self) -> bool:
        """Whether the file of Amazon's first command line tools has a key."""
        lines = (self._contents.get("ec2") or b"").splitlines()
        return any(line.partition(b"=")[0].strip() == b"AWSAccessKeyId" for line in lines if b"=" in line)

    @property
    def boto_has_key(self) -> bool:
        """Whether one of boto's own files has a key."""
        files = [self.sections(name) for name in self._contents if name.startswith("boto")]
        return any("aws_access_key_id" in file.get("Credentials", {}) for file in files)


def digest(content: bytes | None) -> str:
    """Return a digest of what `CredentialFiles.content` returned."""
    return "" if content is None else hashlib.sha256(content).hexdigest()


_parsed: dict[str, Mapping[str, Section]] = {}


def _sections(digest: str, content: bytes) -> Mapping[str, Section]:
    # Parsing takes longer than all the rest, and hardly any process ever has more than one content to parse.
    sections = _parsed.get(digest)
    if sections is None:
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(content.decode(errors="surrogateescape"))
        except configparser.Error:
            parser.clear()
        sections = {
            name: {
                option: "" if option in _SECRETS else value
                for option, value in parser.items(name)
                if option in _OPTIONS or option in _SECRETS
            }
            for name in parser.sections()
        }
        if len(_parsed) >= _MAX_PARSED:
            _parsed.clear()
        _parsed[digest] = sections
    return sections


def expand(path: str, environ: Mapping[str, str]) -> str:
    """Expand `$VAR`, `${VAR}` and `~` as `os.path` does, from `environ`."""
    if "$" in path:  # to compile a pattern takes longer than all the rest of this
        variable = r"\$(\w+|\{[^}]*\})"
        path = re.sub(variable, lambda found: environ.get(found[1].strip("{}"), found[0]), path, flags=re.ASCII)
    return expand_user(path, environ)


def expand_user(path: str, environ: Mapping[str, str]) -> str:
    """Expand `~` and `~user` as `os.path.expanduser` does, from `environ`."""
    if not path.startswith("~"):
        return path
    user, slash, rest = path[1:].partition("/")
    home = environ.get("HOME") if not user else None
    if home is None:
        home = _home_of(user or os.getuid())
    return path if home is None else (home.rstrip("/") + slash + rest) or "/"


@functools.lru_cache(8)
def _home_of(user: str | int) -> str | None:
    try:
        return (pwd.getpwnam(user) if isinstance(user, str) else pwd.getpwuid(user)).pw_dir
    except KeyError:
        return None
