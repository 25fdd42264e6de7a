"""The public names: each can be the first import of a program, in any order, whatever Airflow is configured to construct."""

from __future__ import annotations

import itertools
import os
import sys

import pytest

import redshift_secrets
from tests.support import forked

pytestmark = pytest.mark.airflow

NAMES = ("RedshiftSecretsBackend", "ServerSideBackend", "renewing", "RedshiftSecretsError", "__version__")
CONFIGURED = {
    "by-name": "redshift_secrets.RedshiftSecretsBackend",
    "server-side": "redshift_secrets.ServerSideBackend",
}


def run(script: str, backend: str) -> str:
    environment = {**os.environ, "AIRFLOW__SECRETS__BACKEND": backend}
    done = forked.run([sys.executable, "-c", script], environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_these_are_the_public_names() -> None:
    assert sorted(redshift_secrets.__all__) == sorted(NAMES)


@pytest.mark.parametrize("backend", CONFIGURED.values(), ids=CONFIGURED)
@pytest.mark.parametrize("first", NAMES)
def test_each_name_can_be_the_first_import(first: str, backend: str) -> None:
    rest = [name for name in NAMES if name != first]
    script = f"from redshift_secrets import {first}; from redshift_secrets import {', '.join(rest)}; print('imported')"
    assert run(script, backend) == "imported"


def test_in_one_process_any_order_works() -> None:
    for names in itertools.permutations(NAMES):
        assert all(getattr(redshift_secrets, name) for name in names)


def test_the_version_is_that_of_the_installed_package() -> None:
    assert redshift_secrets.__version__.split(".")[0].isdecimal()


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'RedshiftSecretBackend'"):
        redshift_secrets.RedshiftSecretBackend  # noqa: B018
