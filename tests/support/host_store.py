"""The host store of each test process, which is never that of the person who runs the tests."""

from __future__ import annotations

import json
from collections.abc import Mapping

HOST_STORE = "TESTS_HOST_STORE"
"""The variable that names the folder of a process's host store. This package does not read it: tests make it the setting
`cache.path`."""

_KWARGS = "AIRFLOW__SECRETS__BACKEND_KWARGS"


def with_host_store(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which the backend it configures, if any, has the host store that `HOST_STORE` names there."""
    if _KWARGS not in environment:
        return dict(environment)
    kwargs = json.loads(environment[_KWARGS])
    kwargs["cache"] = {**kwargs.get("cache", {}), "path": environment[HOST_STORE]}
    return {**environment, _KWARGS: json.dumps(kwargs)}
