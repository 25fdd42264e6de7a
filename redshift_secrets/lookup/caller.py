"""The caller: the AWS identity of this process. What is cached for one caller and one configuration is never found by
another.

On one host callers are distinguished without asking AWS, which would cost more than the cache saves: by everything that
decides which credentials boto3's default chain finds. Across hosts that is not enough (two machines may have the same
environment and different instance roles), so there AWS is asked; see `aws.client.AwsClient.sts_identity`.
https://boto3.amazonaws.com/v1/documentation/api/latest/guide/credentials.html
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping

import msgspec.json
from msgspec.structs import asdict

from redshift_secrets.settings.settings import Settings


def settings_fingerprint(settings: Settings) -> str:
    """Return a digest that differs for settings that differ in anything that decides an answer from AWS."""
    fields = asdict(settings)
    del fields["cache"], fields["fallback"]
    return fingerprint(fields)


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def caller_fingerprint(environ: Mapping[str, str], read: Callable[[str], bytes] = _content) -> str:
    """Return a digest that differs for processes of this host that AWS may know as different callers.

    `read` returns the content of the file at a path or raises `OSError`.
    """
    folder = os.path.join(environ.get("HOME", "/"), ".aws")
    places = {
        "config": environ.get("AWS_CONFIG_FILE") or os.path.join(folder, "config"),
        "credentials": environ.get("AWS_SHARED_CREDENTIALS_FILE") or os.path.join(folder, "credentials"),
    }
    files = {}
    for name, place in places.items():
        try:
            files[name] = hashlib.sha256(read(os.path.expanduser(place))).hexdigest()
        except OSError:
            files[name] = ""
    # By name: `os.environ` decodes each value that it is asked for.
    variables = {name: environ[name] for name in environ if name.startswith("AWS_")}
    return fingerprint([variables, files])


def fingerprint(content: object) -> str:
    """Return a digest of plain data, structs and patterns, which identifies keys in it without revealing them."""
    return hashlib.sha256(msgspec.json.encode(content, enc_hook=_plain, order="deterministic")).hexdigest()


def _plain(value: object) -> object:
    return value.pattern if isinstance(value, re.Pattern) else str(value)
