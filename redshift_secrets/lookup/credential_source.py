"""Where botocore's default chain finds credentials, as far as this says how callers can be told apart.

https://boto3.amazonaws.com/v1/documentation/api/latest/guide/credentials.html
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Literal

from redshift_secrets.lookup.caller import CredentialFiles, Read, Section, read_file

Source = Literal["local", "process", "metadata"]
"""Where credentials come from: something that is told apart on the host alone, a program, or the metadata service."""


def credential_source(environ: Mapping[str, str], profile_name: str | None, read: Read = read_file) -> Source:
    """Return where botocore's default chain finds credentials; `profile_name` is that of the settings."""
    return _Chain(environ, profile_name, CredentialFiles(environ, read)).source()


def default_region(environ: Mapping[str, str], read: Read = read_file) -> str | None:
    """Return the region that clients of boto3 have here unless they are told another one; `None` where there is none."""
    return environ.get("AWS_DEFAULT_REGION") or _Chain(environ, None, CredentialFiles(environ, read)).region


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
