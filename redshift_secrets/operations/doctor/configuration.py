"""Airflow's version and which side resolves; the settings as resolved, and where each comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, fields

from redshift_secrets.airflow.fallback import import_problems
from redshift_secrets.airflow.installation import Backend, Installation
from redshift_secrets.model import HiddenMapping, HiddenText, Private
from redshift_secrets.operations.doctor.verdicts import Status, Verdict, verdict
from redshift_secrets.settings import Settings

CLASSES = {
    "redshift_secrets.RedshiftSecretsBackend": "RedshiftSecretsBackend",
    "redshift_secrets.backend.RedshiftSecretsBackend": "RedshiftSecretsBackend",
    "redshift_secrets.ServerSideBackend": "ServerSideBackend",
    "redshift_secrets.server_side.ServerSideBackend": "ServerSideBackend",
}
_HIDDEN = "***"
_WRITTEN = {"class_path": "backend", "kwargs": "backend_kwargs"}
"""How fields of settings are called in `backend_kwargs`, where not as here."""


def airflow_verdicts(found: Installation) -> list[Verdict]:
    """Say which process resolves connections with what."""
    version = f"Airflow {found.version}"
    servers, workers = _name(found.servers), _name(found.workers) if found.workers is not None else ""
    if not workers:
        return [
            verdict(
                "airflow", "ok", f"{version}: every process resolves connections itself, with {servers} of [secrets]"
            )
        ]
    if workers == "ServerSideBackend":
        if servers == "RedshiftSecretsBackend":
            return [verdict("airflow", "ok", f"{version}: the API server resolves connections, and workers ask it")]
        return [
            verdict(
                "airflow",
                "warning",
                f"{version}: this worker leaves resolving to the API server (ServerSideBackend of [workers]), and [secrets] backend is"
                f" {servers or 'not set'} here. Run doctor where the API server runs, whose [secrets] backend has to be"
                " redshift_secrets.RedshiftSecretsBackend",
            )
        ]
    if workers == "RedshiftSecretsBackend":
        others = (
            f"with {servers} of [secrets]"
            if servers
            else "and no other process knows them: [secrets] backend is not set"
        )
        status: Status = "ok" if servers == "RedshiftSecretsBackend" else "warning"
        return [
            verdict(
                "airflow",
                status,
                f"{version}: workers resolve connections with {workers} of [workers], the other processes {others}",
            )
        ]
    return [
        verdict(
            "airflow",
            "warning",
            f"{version}: workers ask {workers} of [workers] and then the API server, which resolves connections. Its refusals do not"
            " reach the log of a task: set [workers] secrets_backend = redshift_secrets.ServerSideBackend",
        )
    ]


def is_server_side_worker(found: Installation) -> bool:
    """Whether tasks here ask the API server for everything."""
    return found.workers is not None and _name(found.workers) == "ServerSideBackend"


def configuring_backend(found: Installation) -> Backend:
    """Return the backend whose settings the commands use: that of `[secrets]`, else of `[workers]`."""
    if _name(found.servers) != "RedshiftSecretsBackend" and found.workers is not None:
        return found.workers
    return found.servers


def configuration_verdicts(
    settings: Settings, found: Installation, overridden: Mapping[str, str] = MappingProxyType({})
) -> list[Verdict]:
    """Say what each setting is and where it comes from: `overridden` says so of those that a command was given. No secret is among
    that."""
    backend = configuring_backend(found)
    sources = {**backend.settings, **overridden}
    option = "backend" if backend.section == "secrets" else "secrets_backend"
    verdicts = [
        verdict("configuration", "ok", f"[{backend.section}] {option} = {backend.class_path}, from {backend.source}")
    ]
    shown = {each.name: _shown(settings, each.name) for each in fields(settings)}
    by_source: dict[str, list[str]] = {}
    for name, source in sources.items():
        if name in shown:
            by_source.setdefault(source, []).append(name)
    for source, read in by_source.items():
        said = "; ".join(f"{name} = {shown[name]}" for name in read)
        verdicts.append(verdict("configuration", "ok", f"from {source}: {said}", read))
    defaults = [name for name in shown if name not in sources]
    verdicts.append(verdict("configuration", "ok", f"the default: all other {len(defaults)} settings", defaults))
    for other in (found.servers, found.workers):
        if other is not None:
            verdicts += [verdict("configuration", "warning", f"{each}. Remove it") for each in other.ineffective]
    return verdicts


def fallback_verdicts(settings: Settings) -> list[Verdict]:
    """Import the class of each fallback; none is constructed."""
    problems = import_problems(settings.fallback)
    return [verdict("configuration", "problem", f"{problem}. What it has is not found") for problem in problems]


def _name(backend: Backend) -> str:
    return CLASSES.get(backend.class_path, backend.class_path)


def _shown(settings: Settings, name: str) -> str:
    if name in settings.hidden:
        return _HIDDEN
    return _text(getattr(settings, name))


def _text(value: Any) -> str:
    """A setting for people; what is hidden stays so."""
    if isinstance(value, (HiddenText, HiddenMapping)):
        return _HIDDEN
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, re.Pattern):
        return str(value.pattern)
    if isinstance(value, (tuple, list)):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, Mapping):
        return _braces(value)
    if hasattr(value, "shown"):  # the address of a Redis
        return str(value.shown)
    if isinstance(value, Struct):
        hidden = value.hidden if isinstance(value, Private) else ()
        said = {
            _WRITTEN.get(name, name): _HIDDEN if name in hidden else each
            for name, each in asdict(value).items()
            if each not in (None, (), {})
        }
        return _braces(said)
    return str(value)


def _braces(found: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{name}: {_text(each)}" for name, each in found.items()) + "}"
