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
import hashlib
import os
import re
import shlex
from collections.abc import Mapping
from typing import Any, Literal

import msgspec.json
from msgspec import Struct, field
from msgspec.structs import asdict

from redshift_secrets.lookup.credential_files import (
    CredentialFiles,
    Read,
    Section,
    digest,
    expand,
    expand_user,
    read_file,
)
from redshift_secrets.model import HiddenMapping
from redshift_secrets.settings.settings import Settings

Source = Literal["local", "process", "metadata"]
"""Where credentials come from: something that is told apart on the host alone, a program, or the metadata service."""

_PROXIES = ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY")
"""botocore asks the metadata service through a proxy, too."""
_LOGIN_ROTATES = ("accessToken", "refreshToken")
"""What botocore writes anew into the file of a login; the key that the login was made with stays."""


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


def credential_source(environ: Mapping[str, str], profile_name: str | None, read: Read = read_file) -> Source:
    """Return where botocore's default chain finds credentials; `profile_name` is that of the settings."""
    return _Chain(environ, profile_name, CredentialFiles(environ, read)).source()


def default_region(environ: Mapping[str, str], read: Read = read_file) -> str | None:
    """Return the region that clients of boto3 have here unless they are told another one; `None` where there is none."""
    return environ.get("AWS_DEFAULT_REGION") or _Chain(environ, None, CredentialFiles(environ, read)).region


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


# --- the chain


class _Chain:
    """botocore's default chain, in its order, as far as to say where credentials come from."""

    def __init__(self, environ: Mapping[str, str], profile_name: str | None, files: CredentialFiles) -> None:
        self._environ = environ
        self._files = files
        self._explicit = profile_name is not None
        names = (environ[name] for name in ("AWS_DEFAULT_PROFILE", "AWS_PROFILE") if name in environ)
        self._name = profile_name or next(names, None) or "default"
        self._credentials = files.sections("credentials")
        self._config = _profiles(files.sections("config"))
        # Of a profile in both files, botocore takes each option of the credentials file before that of the config file.
        self._profiles = dict(self._config)
        for name, section in self._credentials.items():
            self._profiles[name] = {**self._profiles.get(name, {}), **section}

    @property
    def region(self) -> str | None:
        return self._profiles.get(self._name, {}).get("region")

    def source(self) -> Source:
        environ = self._environ
        if not self._explicit and environ.get("AWS_ACCESS_KEY_ID"):
            return "local"
        if _assumes_role(self._profiles.get(self._name, {})):
            return self._source_of_role(self._name, {self._name})
        found = self._source_of_profile(self._name, environ if not self._explicit else {})
        if found is not None:
            return found
        if self._files.ec2_has_key or self._files.boto_has_key or _is_container(environ):
            return "local"
        return _metadata(environ)

    def _source_of_role(self, name: str, visited: set[str]) -> Source:
        """Where the credentials come from with which the role of a profile is assumed."""
        profile = self._profiles[name]
        if profile.get("credential_source", "").lower() == "ec2instancemetadata":
            return _metadata(self._environ)
        source = profile.get("source_profile")
        if source is None or source not in self._profiles:
            return "local"  # the environment, a container, or nothing that botocore accepts
        if _has_key(self._profiles[source]) or not _assumes_role(self._profiles[source]):
            return self._source_of_profile(source, {}) or "local"
        return "local" if source in visited else self._source_of_role(source, visited | {source})

    def _source_of_profile(self, name: str, environ: Mapping[str, str]) -> Source | None:
        profile = self._profiles.get(name, {})
        if environ.get("AWS_WEB_IDENTITY_TOKEN_FILE", profile.get("web_identity_token_file")):
            return "local"
        if "sso_role_name" in profile or "sso_account_id" in profile:
            return "local"
        if "aws_access_key_id" in self._credentials.get(name, {}) or "login_session" in profile:
            return "local"
        if "credential_process" in profile:
            return "process"
        return "local" if "aws_access_key_id" in self._config.get(name, {}) else None


def _profiles(sections: Mapping[str, Section]) -> dict[str, Section]:
    """Return the sections of the config file that are profiles, by the profile's name."""
    profiles: dict[str, Section] = {}
    for title, section in sections.items():
        if title == "default":
            profiles[title] = section
        elif title.startswith("profile"):
            try:
                _, name = shlex.split(title)
            except ValueError:
                continue
            profiles[name] = section
    return profiles


def _assumes_role(profile: Section) -> bool:
    return "role_arn" in profile and "web_identity_token_file" not in profile


def _has_key(profile: Section) -> bool:
    return "aws_access_key_id" in profile or "aws_secret_access_key" in profile


def _is_container(environ: Mapping[str, str]) -> bool:
    return "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" in environ or "AWS_CONTAINER_CREDENTIALS_FULL_URI" in environ


def _metadata(environ: Mapping[str, str]) -> Source:
    # Where it is switched off, botocore finds nothing at all.
    return "local" if environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true" else "metadata"
