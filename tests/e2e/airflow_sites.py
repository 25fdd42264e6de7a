"""Airflow as a task sees it, in this process, in front of a stand-in whose time passes when a test says so.

A worker that resolves itself, or one that asks an API server (the real Execution API, its HTTP carried in memory).
"""

from __future__ import annotations

import contextlib
import functools
import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import psutil
import structlog
from airflow import configuration
from airflow.sdk.configuration import clear_secrets_backends_cache
from airflow.sdk.execution_time.supervisor import (
    InProcessSupervisorComms,
    InProcessTestSupervisor,
    set_supervisor_comms,
)

from redshift_secrets import backend
from redshift_secrets.local.stand_in import StandIn
from redshift_secrets.lookup.wiring import LazyAwsClient, create_broker, create_stores

OURS = "redshift_secrets.RedshiftSecretsBackend"
ENVIRONMENT = "airflow.secrets.environment_variables.EnvironmentVariablesBackend"


@contextlib.contextmanager
def worker(stand_in: StandIn, clock: Callable[[], float] | None = None, **kwargs: str) -> Iterator[None]:
    """A task's process that resolves connections itself."""
    with _airflow(stand_in, clock, {"AIRFLOW__SECRETS__BACKEND": OURS}, kwargs):
        yield


@contextlib.contextmanager
def server(stand_in: StandIn, clock: Callable[[], float] | None = None, **kwargs: str) -> Iterator[None]:
    """A task's process without our backend, and the Execution API of an API server that has it."""
    sections = {"AIRFLOW__SECRETS__BACKEND": OURS, "AIRFLOW__WORKERS__SECRETS_BACKEND": ENVIRONMENT}
    with _airflow(stand_in, clock, sections, kwargs):
        supervisor = InProcessTestSupervisor(
            id=uuid.uuid4(),
            pid=os.getpid(),
            process=psutil.Process(),
            process_log=structlog.get_logger(),
            client=InProcessTestSupervisor._api_client(),
        )
        supervisor.comms = InProcessSupervisorComms(supervisor=supervisor)
        with set_supervisor_comms(supervisor.comms):
            yield


@contextlib.contextmanager
def _airflow(
    stand_in: StandIn, clock: Callable[[], float] | None, sections: dict[str, str], kwargs: dict[str, str]
) -> Iterator[None]:
    settings = {"regions": "eu-west-1", **kwargs}
    named = {f"AIRFLOW__SECRETS__BACKEND_KWARG__{name.upper()}": value for name, value in settings.items()}
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, {**stand_in.environment(), **sections, **named}))
        if clock is not None:
            for part in (LazyAwsClient, create_broker, create_stores):
                ticking: Any = functools.partial(part, clock=clock)
                stack.enter_context(mock.patch.object(backend, part.__name__, ticking))
        clear_secrets_backends_cache()
        stack.callback(clear_secrets_backends_cache)
        # What the server asks was made when Airflow's configuration was imported.
        made = configuration.initialize_secrets_backends()
        stack.enter_context(mock.patch.object(configuration, "secrets_backend_list", made))
        yield
