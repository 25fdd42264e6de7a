"""A listing that fails before AWS answers."""

from __future__ import annotations

import os
from typing import Any

import pytest

from redshift_secrets.aws.client import AwsClient
from redshift_secrets.aws.paging import ask_aws
from redshift_secrets.errors import AwsError
from redshift_secrets.model import Scope
from redshift_secrets.settings import Settings

CLUSTERS = Scope("cluster", "eu-west-1", None)
ONCE = {"retries": {"total_max_attempts": 1}}


def failure(endpoint: str | None = None, **config: Any) -> AwsError:
    """Return what listing clusters raises; `config` is the setting of this name."""
    config = {**ONCE, **config}
    settings = {"regions": ["eu-west-1"], "config": config, **({"endpoint_url": endpoint} if endpoint else {})}
    with pytest.raises(AwsError) as caught:
        AwsClient(Settings.from_kwargs(settings)).list(CLUSTERS, ask_aws)
    assert "please report" not in str(caught.value)
    assert "secret-key" not in str(caught.value)
    return caught.value


def set_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the environment hold access keys and nothing else that credentials or proxies come from."""
    for name in ("AWS_PROFILE", "HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-key")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
