"""The files in which botocore looks for credentials: found, read and parsed as botocore does, without loading it."""

from __future__ import annotations

import configparser
import functools
import hashlib
import os
import pwd
import re
from collections.abc import Callable, Mapping

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


def read_file(path: str) -> bytes:
    """Return the content of a regular file; raises `OSError`. Anything else, a pipe for one, could keep the reader waiting."""
    if not os.path.isfile(path):
        raise FileNotFoundError(path)
    with open(path, "rb") as file:
        return file.read()


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
