"""Airflow as a task finds it, in this process.

The task resolves connections itself, or asks an API server (the real Execution API, whose HTTP stays in memory).
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
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

from redshift_secrets.local.stand_in import StandIn
from tests.support.airflow_parts import backends_with_clock

BACKEND = "redshift_secrets.RedshiftSecretsBackend"
ENVIRONMENT = "airflow.secrets.environment_variables.EnvironmentVariablesBackend"


@contextlib.contextmanager
def worker(stand_in: StandIn, clock: Callable[[], float] | None = None, **kwargs: str) -> Iterator[None]:
    """Be the process of a task that resolves connections itself."""
    with _airflow(stand_in, clock, {"AIRFLOW__SECRETS__BACKEND": BACKEND}, kwargs):
        yield


@contextlib.contextmanager
def server(stand_in: StandIn, clock: Callable[[], float] | None = None, **kwargs: str) -> Iterator[None]:
    """Be the process of a task without this backend, and offer it the Execution API of an API server that has it."""
    sections = {"AIRFLOW__SECRETS__BACKEND": BACKEND, "AIRFLOW__WORKERS__SECRETS_BACKEND": ENVIRONMENT}
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
    settings = {"regions": "eu-west-1", "aws_timeout_seconds": "300", **kwargs}
    named = {f"AIRFLOW__SECRETS__BACKEND_KWARG__{name.upper()}": value for name, value in settings.items()}
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, {**stand_in.environment(), **sections, **named}))
        if clock is not None:
            stack.enter_context(backends_with_clock(clock))
        clear_secrets_backends_cache()
        stack.callback(clear_secrets_backends_cache)
        # Airflow constructed the server's backends when its configuration was imported.
        backends = configuration.initialize_secrets_backends()
        stack.enter_context(mock.patch.object(configuration, "secrets_backend_list", backends))
        yield
