"""Names of the sessions of assumed roles, which CloudTrail shows."""

from __future__ import annotations

import os
import pwd
import re
import types

import pytest
from botocore.loaders import Loader

from redshift_secrets.aws.sessions import role_session_name


class TestNamesOfSessions:
    @pytest.mark.parametrize(
        ("host", "user", "name"),
        [
            ("worker-1.example.com", "airflow", "redshift-secrets-airflow@worker-1.example.com"),
            ("h\u00f6st name", "DOMAIN\\al:ice", "redshift-secrets-DOMAIN-al-ice@h-st-name"),
            ("h" * 100, "airflow", "redshift-secrets-airflow@" + "h" * 39),
        ],
    )
    def test_they_name_user_and_host_as_sts_accepts_it(
        self, host: str, user: str, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pwd, "getpwuid", lambda _uid: types.SimpleNamespace(pw_name=user))
        assert role_session_name(host) == name
        pattern = Loader().load_service_model("sts", "service-2")["shapes"]["roleSessionNameType"]
        assert re.fullmatch(pattern["pattern"], name, re.ASCII)
        assert pattern["min"] <= len(name) <= pattern["max"]

    @pytest.mark.parametrize(("environ", "user"), [({}, "1234"), ({"USER": "default"}, "default")])
    def test_a_user_without_a_passwd_entry_has_one_too(
        self, environ: dict[str, str], user: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unknown(_uid: int) -> None:
            raise KeyError

        monkeypatch.setattr(pwd, "getpwuid", unknown)
        monkeypatch.setattr(os, "getuid", lambda: 1234)
        assert role_session_name("pod-1", environ) == f"redshift-secrets-{user}@pod-1"
