"""Once a conn_id is known to be managed, an exception anywhere is a refusal; docs/contract.md, "Looking a conn_id up".

It is known from the moment a claim is found, or where `managed_conn_ids` matches, from the beginning. The functions are found
by tracing a lookup, and each of them then raises at its first line.
"""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path

import pytest

import redshift_secrets
from redshift_secrets import RedshiftSecretsBackend
from redshift_secrets.airflow import refusals
from redshift_secrets.airflow.audit import AuditLog, to_line
from redshift_secrets.errors import CannotServeError
from redshift_secrets.lookup.catalog import Catalog
from tests.support.fakes import denied
from tests.support.helpers import Site, all_refreshes_done

pytestmark = pytest.mark.attempt("get an old password by making a lookup fail")

PATIENCE_SECONDS = 60
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
    """Return a lookup by a new backend with a new broker, of a cluster that is claimed and whose mint fails with an error, if one
    is given. Refusals come as objects."""
    monkeypatch.setattr(refusals, "authoritative_refusal", lambda: None)

    def look_up(mint_error=None, seconds=PATIENCE_SECONDS, **settings):
        audit = AuditLog(to_line, None)
        site = Site(clock, metrics=Counting(), audit=audit, aws_timeout_seconds=seconds, **settings)
        site.aws.mint_error = mint_error
        backend = RedshiftSecretsBackend(regions=["eu-west-1"], **settings)
        backend._audit = audit
        monkeypatch.setattr(backend, "current_broker", lambda: site.broker)
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
    answers = answers_where_one_raises(functions, since, lambda seconds: look_up(seconds=seconds, **settings))
    assert [name for name, answer in answers.items() if answer is None] == []
    refused = [name for name, answer in answers.items() if isinstance(answer, refusals.RefusedConnection)]
    assert len(refused) > 20


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_whatever_function_raises_while_a_refusal_is_reported_it_comes_out(look_up):
    functions = functions_called(lambda: look_up(denied("redshift:GetClusterCredentials"))("analytics"), claim_is_found)
    all_refreshes_done()
    names = {code.co_name for code in functions}
    assert names >= {"_record_refusal", "refused", "_log_error", "error", "refusals_are_lost", "refuse"}
    makes_it = {"refuse", "final_refusal", "__init__"}
    functions = [each for each in functions if not (each.co_name in makes_it and each.co_filename == refusals.__file__)]
    answers = answers_where_one_raises(
        functions, claim_is_found, lambda seconds: look_up(denied("redshift:GetClusterCredentials"), seconds)
    )
    assert [name for name, answer in answers.items() if answer is None] == []


class Raising(logging.Handler):
    """A handler of a site that does not catch what it meets."""

    def emit(self, record):
        raise KeyError("hunter2")


@pytest.fixture
def raising_log(monkeypatch):
    """Every line of this package's log raises."""
    logger, handler = logging.getLogger("redshift_secrets"), Raising()
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    logger.manager._clear_cache()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.mark.usefixtures("raising_log")
def test_a_log_that_raises_changes_no_answer(look_up):
    assert look_up()("analytics").password == "password-1"
    assert look_up()("other") is None
    refused = look_up(denied("redshift:GetClusterCredentials"))("analytics")
    with pytest.raises(CannotServeError, match="AccessDenied"):
        _ = refused.host


def answers_where_one_raises(functions, since, make):
    """Return by function what a lookup returns when that raises, `None` where it raises that itself. `make` makes lookups that
    take so many seconds at most."""
    answers = {}
    for code in functions:
        name = f"{code.co_name} in {Path(code.co_filename).name}:{code.co_firstlineno}"
        for seconds in (
            1,
            PATIENCE_SECONDS,
        ):  # a thread that raises is waited for; a busy machine may not list in a second
            get_connection = make(seconds)
            try:
                answers[name] = profiled(raising_in(code, since), lambda: get_connection("analytics"))  # noqa: B023
            except Planted:
                answers[name] = None
            all_refreshes_done()
            if answers[name] is not None:
                break
    return answers
