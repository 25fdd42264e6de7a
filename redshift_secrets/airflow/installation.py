"""How this Airflow is set up: which backend resolves connections where, and where each of its settings comes from. For
commands that look at a site; no lookup needs it."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping, Sequence
from configparser import ConfigParser
from typing import Any

from msgspec import Struct

_PER_KEY_SINCE = (3, 2)
"""The first Airflow that reads BACKEND_KWARG__<NAME>."""
_WORKERS_SINCE = (3, 0)


class Backend(Struct, frozen=True):
    """The class that a section names, and from where: a variable, a file, `None` for Airflow's default.

    `settings` says from where each of its arguments comes. `ineffective` are sentences on what this Airflow does not read.
    """

    section: str
    class_path: str
    source: str | None
    settings: Mapping[str, str]
    ineffective: tuple[str, ...] = ()


class Installation(Struct, frozen=True):
    """`servers` is the backend of API server, scheduler, DAG processor and triggerer, `workers` that of tasks, where it is
    another one. `keeps_seconds` is how long Airflow keeps answers in the DAG processor, 0 where it does not."""

    version: str
    servers: Backend
    workers: Backend | None


def describe_installation(environ: Mapping[str, str] = os.environ) -> Installation:
    """Return how Airflow is configured in this environment; nothing is constructed and no command is run but those that the
    configuration names for these options."""
    configuration = importlib.import_module("airflow.configuration")
    version = str(importlib.import_module("airflow").__version__)
    known = _numbers(version)
    reader = _Reader(configuration.conf, str(configuration.AIRFLOW_CONFIG), environ, known)
    workers = reader.backend("workers", "secrets_backend") if known >= _WORKERS_SINCE else None
    return Installation(
        version,
        reader.backend("secrets", "backend"),
        workers if workers is not None and (workers.class_path or workers.ineffective) else None,
    )


class _Reader:
    def __init__(self, conf: Any, file: str, environ: Mapping[str, str], version: Sequence[int]) -> None:
        self._conf = conf
        self._file = file
        self._environ = environ
        self._version = tuple(version)

    def backend(self, section: str, option: str) -> Backend:
        class_path = str(self._conf.get(section, option, fallback="") or "").strip()
        kwargs = f"{option}_kwargs"
        source = self._source(section, kwargs)
        settings = dict.fromkeys(self._names(section, kwargs), source or "the default")
        prefix = f"AIRFLOW__{section.upper()}__{option.upper()}_KWARG__"
        variables = [name for name in self._environ if name.startswith(prefix) and name != prefix]
        ineffective = []
        if not class_path:
            named = [*variables, *([source] if source is not None and settings else [])]
            ineffective += [f"{name} has no effect: [{section}] {option} is not set" for name in named]
        elif self._version < _PER_KEY_SINCE:
            ineffective += [f"{name} has no effect: Airflow reads it from 3.2 on" for name in variables]
        else:
            settings |= {name[len(prefix) :].lower(): name for name in variables}
        return Backend(section, class_path, self._source(section, option), settings, tuple(ineffective))

    def _source(self, section: str, option: str) -> str | None:
        """Where Airflow finds an option, in its order; `None` where nobody has set it."""
        variable = f"AIRFLOW__{section.upper()}__{option.upper()}"
        endings = ("", "_CMD", "_SECRET") if (section, option) in self._conf.sensitive_config_values else ("",)
        for ending in endings:
            if variable + ending in self._environ:
                return variable + ending
        for ending in endings:
            if ConfigParser.has_option(self._conf, section, option + ending.lower()):
                return f"{option}{ending.lower()} in {self._file}" if ending else self._file
        return None

    def _names(self, section: str, option: str) -> list[str]:
        try:
            kwargs = json.loads(self._conf.get(section, option, fallback="") or "{}")
        except ValueError:
            return []
        return list(kwargs) if isinstance(kwargs, dict) else []


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
