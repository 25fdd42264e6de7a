"""Connections in Secrets Manager and Parameter Store, as the Amazon provider's secrets backends find them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore import xform_name

from redshift_secrets.aws.errors import member, translate_errors
from redshift_secrets.aws.sessions import Sessions
from redshift_secrets.errors import AwsError
from redshift_secrets.model import Private
from redshift_secrets.settings.settings import Settings

_THREADS = 8
"""That read secrets, or parameters one by one: AWS returns one with each call."""


class StoredText(Private, frozen=True):
    """A secret or parameter: its full name, what follows the prefix, and its text, `None` where it has none. `problem` says why it
    cannot be read where others can."""

    hidden = ("text",)

    name: str
    conn_id: str
    text: str | None
    problem: str | None = None


_OF_ITS_KEY = frozenset({"DecryptionFailure", "InvalidKeyId"})
_OF_ONE = _OF_ITS_KEY | {"InvalidRequestException", "ParameterNotFound", "ResourceNotFoundException"}


def _is_its_key(error: AwsError) -> bool:
    """Whether the key that a secret or parameter is encrypted with cannot be used: others may have another one."""
    return error.code in _OF_ITS_KEY or (error.is_denied and ("KMS" in error.reason or "kms:" in error.reason))


def _is_its_own(error: AwsError) -> bool:
    """Whether an error says nothing of other secrets or parameters: each has its key, and may be deleted meanwhile."""
    return error.code in _OF_ONE or _is_its_key(error)


def _text(raw: Any, name: str) -> str | None:
    """What an item has under a name; all of it is optional in the models of AWS."""
    found = raw.get(name) if isinstance(raw, Mapping) else None
    return found if isinstance(found, str) else None


class StoredTexts:
    """AWS, called as the identity that the settings name, in one region of theirs. Every method may raise `AwsError`."""

    def __init__(self, settings: Settings) -> None:
        self._sessions = Sessions(settings)
        home = next(iter(settings.regions), None) or settings.region_name
        self.region = home or self._sessions.default_region()

    def secrets(self, prefix: str, sep: str, wanted: Callable[[str], bool]) -> list[StoredText]:
        """Return the secrets under a prefix whose conn_ids are wanted.

        https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_ListSecrets.html
        """
        start = prefix.rstrip(sep) + sep if prefix else ""
        names = [name for name in self._secret_names(start) if wanted(name[len(start) :])]
        return self._one_by_one(names, start, self._secret)

    def parameters(self, prefix: str, wanted: Callable[[str], bool]) -> list[StoredText]:
        """Return the parameters under a prefix whose conn_ids are wanted, decrypted.

        https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParametersByPath.html
        """
        path = "/" + prefix.strip("/")
        start = path.rstrip("/") + "/"

        def listed(decrypted: bool) -> dict[str, str | None]:
            request = {"Path": path, "Recursive": True, "WithDecryption": decrypted}
            found = self._listed("ssm", "GetParametersByPath", f"parameters under {path}", "Parameters", request)
            texts = {_text(raw, "Name") or "": _text(raw, "Value") for raw in found}
            return {name: texts[name] for name in texts if name.startswith(start) and wanted(name[len(start) :])}

        try:
            texts = listed(decrypted=True)
        except AwsError as error:
            if not _is_its_key(error):
                raise
            # Of all parameters under the path, one whose key cannot be used is enough for that.
            return self._one_by_one(list(listed(decrypted=False)), start, self._parameter)
        return [
            StoredText(name, name[len(start) :], text, None if text is not None else "AWS gives no value of it")
            for name, text in texts.items()
        ]

    def _one_by_one(self, names: Sequence[str], start: str, text_of: Callable[[str], str | None]) -> list[StoredText]:
        def read(name: str, first: bool = False) -> StoredText:
            try:
                return StoredText(name, name[len(start) :], text_of(name))
            except AwsError as error:
                if first and not _is_its_own(error):  # where that is denied, one call is enough to know
                    raise
                return StoredText(name, name[len(start) :], None, str(error))

        found = [read(name, first=True) for name in names[:1]]
        with ThreadPoolExecutor(_THREADS) as pool:
            found += pool.map(read, names[1:])
        return found

    def _secret_names(self, start: str) -> list[str]:
        request = {"Filters": [{"Key": "name", "Values": [start]}]} if start else {}
        what = f"secrets under {start or '/'}"
        names = [
            _text(raw, "Name") for raw in self._listed("secretsmanager", "ListSecrets", what, "SecretList", request)
        ]
        return [name for name in names if name and name.startswith(start)]

    def _secret(self, name: str) -> str | None:
        """https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html"""
        identity = self._sessions.expected_identity(None)
        with translate_errors("secretsmanager:GetSecretValue", f"secret {name} in {self.region}", identity):
            answer = self._client("secretsmanager").get_secret_value(SecretId=name)
        return _text(answer, "SecretString")

    def _parameter(self, name: str) -> str | None:
        """https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameter.html"""
        identity = self._sessions.expected_identity(None)
        with translate_errors("ssm:GetParameter", f"parameter {name} in {self.region}", identity):
            answer = self._client("ssm").get_parameter(Name=name, WithDecryption=True)
        return _text(member(answer, "Parameter", dict), "Value")

    def _listed(self, service: str, operation: str, what: str, key: str, request: dict[str, Any]) -> list[Any]:
        identity = self._sessions.expected_identity(None)
        with translate_errors(f"{service}:{operation}", f"{what} in {self.region}", identity):
            pages = self._client(service).get_paginator(xform_name(operation)).paginate(**request)
            return [raw for page in pages for raw in member(page, key, list)]

    def _client(self, service: str) -> Any:
        return self._sessions.client(service, region=self.region, role_arn=None)
