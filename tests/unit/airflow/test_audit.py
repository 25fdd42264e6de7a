"""The lines of an audit: what is in them, and what never is."""

from __future__ import annotations

import json
import logging
import os

import pytest

from redshift_secrets.airflow import audit as airflow_audit
from redshift_secrets.airflow.audit import AuditLog, get_or_create_audit, to_line
from redshift_secrets.errors import AwsError, CannotServeError
from redshift_secrets.lookup.listing import ClaimChange
from redshift_secrets.lookup.reasons import refusal
from redshift_secrets.lookup.spec import build_spec
from redshift_secrets.model import ConnectionFields, Credential, MintRequest
from redshift_secrets.settings import Settings
from tests.support.fakes import EPOCH, Clock, cluster
from tests.support.helpers import in_child

KEY, OTHER_KEY = "a" * 43 + "=", "b" * 42 + "A="
PASSWORD = "hunter2/+="
CALLER = "arn:aws:sts::123456789012:assumed-role/airflow/worker"
ARN = cluster().arn
FIELDS = ConnectionFields("analytics", "redshift", "h", 5439, "dev", "IAM:etl", PASSWORD, {"token": PASSWORD}, "d")
CREDENTIAL = Credential("IAM:etl", PASSWORD, EPOCH, EPOCH + 3600, CALLER, "request-1")
SPEC = build_spec(cluster(), "analytics", Settings.from_kwargs({"db_user": "etl"}))
EVERYWHERE = {"host": os.uname().nodename, "pid": os.getpid(), "process": "scheduler"}


@pytest.fixture(autouse=True)
def no_task(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/opt/airflow/bin/airflow", "scheduler", "--password", PASSWORD])


class Lines:
    """An audit whose lines are kept here."""

    def __init__(self, key=KEY):
        self.clock = Clock()
        self.raw: list[bytes] = []
        self.audit = AuditLog(lambda event: self.raw.append(to_line(event)), key, self.clock, self.clock)

    def events(self):
        assert PASSWORD.encode() not in b"".join(self.raw)
        return [json.loads(line) for line in self.raw]


def test_a_mint_has_everything_that_cloudtrail_and_the_warehouse_know_it_by():
    lines = Lines()
    lines.audit.minted("analytics", MintRequest.of(SPEC), CREDENTIAL)
    (event,) = lines.events()
    assert len(event.pop("password")) == 16
    assert event == {
        "when": "2027-01-15T08:00:00.000000Z",
        "event": "minted",
        "conn_id": "analytics",
        "warehouse": ARN,
        "user": "IAM:etl",
        "caller": CALLER,
        "request_id": "request-1",
        "expires": "2027-01-15T09:00:00Z",
        **EVERYWHERE,
    }


def test_a_connection_that_is_served_has_the_task_and_the_tier(monkeypatch):
    for name, value in {"DAG_ID": "sales", "TASK_ID": "load", "DAG_RUN_ID": "run1", "TRY_NUMBER": "2"}.items():
        monkeypatch.setenv(f"AIRFLOW_CTX_{name}", value)
    lines = Lines()
    lines.audit.served(FIELDS, ARN, CREDENTIAL, "host", "finance")
    (event,) = lines.events()
    served = {name: event[name] for name in ("event", "tier", "team", "dag_id", "task_id", "run_id", "try_number")}
    assert served == {
        "event": "served",
        "tier": "host",
        "team": "finance",
        "dag_id": "sales",
        "task_id": "load",
        "run_id": "run1",
        "try_number": "2",
    }


def test_where_the_driver_mints_there_is_no_credential():
    lines = Lines()
    lines.audit.served(FIELDS, ARN, None, "process", None)
    (event,) = lines.events()
    assert event.keys() & {"caller", "expires", "password", "request_id", "team"} == set()


def test_a_refusal_by_aws_has_its_code_and_request():
    denied = AwsError("redshift:X", ARN, CALLER, "AccessDenied", "No.", "Allow it.", False, "request-2")
    lines = Lines()
    lines.audit.refused("analytics", refusal(SPEC, str(denied), denied), None)
    lines.audit.refused("old", CannotServeError("no catalog"), "finance")
    first, second = lines.events()
    assert (first["warehouse"], first["caller"], first["code"]) == (ARN, CALLER, "AccessDenied")
    assert (first["request_id"], first["message"]) == ("request-2", str(refusal(SPEC, str(denied))))
    assert second.keys() == {"when", "event", "conn_id", "message", "team", *EVERYWHERE}


def test_a_refusal_that_repeats_is_one_line_in_a_minute_with_a_count():
    lines = Lines()
    for seconds in (1, 1, 57, 0, 2):
        lines.audit.refused("analytics", CannotServeError("it is paused"), None)
        lines.audit.refused("other", CannotServeError("it is paused"), None)
        lines.clock.pass_(seconds)
    events = [event for event in lines.events() if event["conn_id"] == "analytics"]
    assert [event.get("repeated") for event in events] == [None]
    lines.audit.refused("analytics", CannotServeError("it is paused"), None)
    lines.audit.refused("analytics", CannotServeError("it is deleted"), None)
    assert [event.get("repeated") for event in lines.events()[2:]] == [4, None]


def test_a_process_that_is_forked_has_refused_nothing_yet():
    lines = Lines()
    lines.audit.refused("analytics", CannotServeError("it is paused"), None)

    def child():
        lines.raw.clear()
        lines.audit.refused("analytics", CannotServeError("it is paused"), None)
        return len(lines.raw)

    assert in_child(child) == 1


def test_no_more_refusals_are_remembered_than_a_bound():
    lines = Lines()
    for number in range(2500):
        lines.audit.refused("analytics", CannotServeError(f"{number}"), None)
    assert len(lines.raw) == 2500
    assert len(lines.audit._refusals) <= 1000


def test_claims_that_change_and_a_flush():
    lines = Lines()
    old, new = cluster("old"), cluster("new")
    lines.audit.claim_changed(ClaimChange("analytics", (old,), (new,)))
    lines.audit.claim_changed(ClaimChange("analytics", (new,), ()))
    lines.audit.flushed(None, ("host: cleared all entries",))
    facts = [{name: each[name] for name in each if name not in {"when", *EVERYWHERE}} for each in lines.events()]
    assert facts == [
        {"event": "claim-moved", "conn_id": "analytics", "warehouse": new.arn, "before": old.arn},
        {"event": "claim-vanished", "conn_id": "analytics", "before": new.arn},
        {"event": "flushed", "message": "host: cleared all entries"},
    ]


def fingerprint_of(password, key=KEY):
    lines = Lines(key)
    lines.audit.minted("analytics", MintRequest.of(SPEC), Credential("IAM:etl", password, 0, 1, CALLER))
    return lines.events()[0].get("password")


@pytest.mark.attempt("guess a password from its fingerprint in the audit")
def test_a_fingerprint_tells_passwords_apart_and_cannot_be_made_without_the_key():
    assert fingerprint_of("one") == fingerprint_of("one") != fingerprint_of("two")
    assert fingerprint_of("one", OTHER_KEY) != fingerprint_of("one")
    assert fingerprint_of("one", None) is None


AWKWARD = 'a"b\\\n\r\t\x00\x1b[31m\u2028\U0001f600\ud800{"when": '


def test_words_from_elsewhere_are_escaped_and_bounded(monkeypatch):
    for name in ("DAG_ID", "TASK_ID", "DAG_RUN_ID", "TRY_NUMBER"):
        monkeypatch.setenv(f"AIRFLOW_CTX_{name}", AWKWARD.replace("\0", "").replace("\ud800", "") * 500)
    lines = Lines()
    lines.audit.served(FIELDS, AWKWARD * 1000, CREDENTIAL, "host", AWKWARD * 1000)
    lines.audit.refused(AWKWARD, CannotServeError(AWKWARD), None)
    lines.events()
    assert all(len(line) <= 4000 and line.isascii() and line.count(b"\n") == 1 for line in lines.raw)
    assert lines.events()[1]["conn_id"] == AWKWARD


class Hostile:
    def __getattr__(self, name):
        raise RuntimeError(PASSWORD)


def test_a_task_that_breaks_its_own_context_is_written_without_it(monkeypatch):
    monkeypatch.setattr(airflow_audit, "task_instance", lambda environ: Hostile().dag_id)
    lines = Lines()
    lines.audit.served(FIELDS, ARN, CREDENTIAL, "host", None)
    assert lines.events()[0]["event"] == "served"


def test_an_event_that_cannot_be_made_is_logged_without_the_text_of_the_error(caplog):
    lines = Lines()
    lines.audit.served(Hostile(), ARN, CREDENTIAL, "host", None)
    assert lines.raw == []
    assert caplog.messages == ["an event of the audit (served) is lost: an unexpected RuntimeError"]


def test_airflows_log_has_the_lines_of_the_setting_log(caplog):
    caplog.set_level(logging.INFO)
    get_or_create_audit("log", None).flushed("analytics", ("host: cleared",))
    (record,) = caplog.records
    assert record.name == "redshift_secrets.audit"
    assert json.loads(record.getMessage())["event"] == "flushed"
