"""Once a conn_id is known to be managed, an exception anywhere is a refusal; docs/contract.md, "Looking a conn_id up".

It is known from the moment a claim is found, or where `managed_conn_ids` matches, from the beginning. The functions are found
by tracing a lookup, and each of them then raises at its first line.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

import redshift_secrets
from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.airflow import refusals
from redshift_secrets.airflow.audit import AuditLog, to_line
from redshift_secrets.lookup.catalog import Catalog
from tests.support.helpers import Site, all_refreshes_done

pytestmark = pytest.mark.attempt("get an old password by making a lookup fail")

PACKAGE = str(Path(redshift_secrets.__file__).parent)


class Planted(Exception):  # noqa: N818
    """The exception that a function raises."""


class Counting:
    """Metrics of a site that has some."""

    def incr(self, stat, *, tags=None):
        pass

    def timing(self, stat, dt):
        pass


@pytest.fixture
def look_up(clock, monkeypatch):
    """Return a lookup by a new backend with a new broker, of a cluster that is claimed. Refusals come as objects."""
    monkeypatch.setattr(refusals, "authoritative_refusal", lambda: None)

    def look_up(**settings):
        audit = AuditLog(to_line, None)
        broker = Site(
            clock, metrics=Counting(), audit=audit, aws_timeout_seconds=1, **settings
        ).broker  # where a thread itself raises
        backend = RedshiftSecretsBackend(regions=["eu-west-1"], **settings)
        backend._audit = audit
        monkeypatch.setattr(backend, "current_broker", lambda: broker)
        return backend.get_connection

    return look_up


def claim_is_found(frame, event, argument):
    return event == "return" and frame.f_code is Catalog.find.__code__ and argument is not None  # `None`: it raises


def lookup_begins(frame, event, _argument):
    return event == "call" and frame.f_code is RedshiftSecretsBackend._fields.__code__


def functions_called(lookup, since):
    """Return the functions of the package that a lookup calls, in any thread, from the moment it is known to be managed."""
    seen, known = {}, threading.Event()

    def profile(frame, event, argument):
        if since(frame, event, argument):
            known.set()
        elif event == "call" and known.is_set() and frame.f_code.co_filename.startswith(PACKAGE):
            seen.setdefault(frame.f_code, None)

    profiled(profile, lookup)
    return list(seen)


def profiled(profile, lookup):
    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        return lookup()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def raising_in(code, since):
    """Return a profile function that raises where a function is called after the conn_id is known to be managed."""
    known = threading.Event()

    def profile(frame, event, argument):
        if since(frame, event, argument):
            known.set()
        elif event == "call" and known.is_set() and frame.f_code is code:
            raise Planted("hunter2")

    return profile


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("since", "settings"),
    [(claim_is_found, {}), (lookup_begins, {"managed_conn_ids": "^ana"})],
    ids=["claimed", "managed_conn_ids"],
)
def test_whatever_function_raises_once_it_is_known_to_be_managed_a_connection_or_a_refusal_comes_out(
    look_up, since, settings
):
    functions = functions_called(lambda: look_up(**settings)("analytics"), since)
    all_refreshes_done()
    names = {code.co_name for code in functions}
    assert {"_serve", "mint_request", "with_credential", "build"} & names >= {"_serve", "with_credential", "build"}
    assert len(functions) > 30
    answers = {}
    for code in functions:
        get_connection = look_up(**settings)
        name = f"{code.co_name} in {Path(code.co_filename).name}:{code.co_firstlineno}"
        try:
            answers[name] = profiled(raising_in(code, since), lambda: get_connection("analytics"))  # noqa: B023
        except Planted:
            answers[name] = None
        all_refreshes_done()
    assert [name for name, answer in answers.items() if answer is None] == []
    refused = [name for name, answer in answers.items() if isinstance(answer, refusals.RefusedConnection)]
    assert len(refused) > 20
