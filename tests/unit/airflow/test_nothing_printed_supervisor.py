"""The supervisor of a task masks what the task is handed out: who tells it, who must not, and what it forgets again."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from redshift_secrets.airflow import masking, refusals
from redshift_secrets.airflow.supervisor import SupervisorMasker
from redshift_secrets.cache.store import CLOCKS_DIFFER_SECONDS
from redshift_secrets.model import HiddenText
from tests.support import airflow_parts
from tests.support.airflow_parts import from_airflow_3_0
from tests.support.fakes import EPOCH, Clock
from tests.support.helpers import in_child

pytestmark = [from_airflow_3_0, pytest.mark.attempt("print a password, a URI with it or its base64 in a task")]

PASSWORD = "pass/word+0001="
RUNNER = "airflow.sdk.execution_time.task_runner"


class _Channel:
    """What a process has of its supervisor; `sent` is what it was told."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.sent: list[Any] = []
        self._error = error

    def send(self, message: Any) -> None:
        if self._error is not None:
            raise self._error
        self.sent.append(message.value)


def channel(name: str = "CommsDecoder", error: BaseException | None = None, **attributes: Any) -> Any:
    return type(name, (_Channel,), attributes)(error)


AIRFLOW_3_1: dict[str, Any] = {}
AIRFLOW_3_2 = {"_thread_lock": None}
AIRFLOW_3_3 = {"_thread_lock": None, "_is_on_loop_thread": False}


@pytest.fixture(autouse=True)
def clean_maskers():
    airflow_parts.reset_maskers()
    yield
    airflow_parts.reset_maskers()


@pytest.fixture
def connect(monkeypatch):
    """Gives this process a supervisor."""

    def set_channel(made):
        monkeypatch.setitem(sys.modules, RUNNER, SimpleNamespace(SUPERVISOR_COMMS=made))
        return made

    return set_channel


@pytest.fixture
def masker():
    return SupervisorMasker()


def in_thread(call):
    thread = threading.Thread(target=call)
    thread.start()
    thread.join(30)


def in_event_loop(call):
    async def run():
        call()

    asyncio.run(run())


def forms_in(sent):
    return {form for message in sent for form in message if isinstance(form, str) and form}


def test_it_is_told_every_form_once(connect, masker):
    supervisor = connect(channel(**AIRFLOW_3_3))
    assert not masker.has(PASSWORD)
    for _ in range(3):
        masker.add(HiddenText(PASSWORD))
    assert len(supervisor.sent) == 1
    assert forms_in(supervisor.sent) == masking.forms(PASSWORD)
    assert all(type(form) is not HiddenText for form in supervisor.sent[0])
    assert masker.has(PASSWORD)
    masker.add("another password")
    assert len(supervisor.sent) == 2


def test_without_a_supervisor_there_is_nothing_to_do(masker, monkeypatch, caplog):
    for module in (None, SimpleNamespace(), SimpleNamespace(SUPERVISOR_COMMS=None)):
        monkeypatch.setitem(sys.modules, RUNNER, module)
        masker.add(PASSWORD)
        assert masker.has(PASSWORD)
    assert caplog.records == []


@pytest.mark.parametrize("name", ["TriggerCommsDecoder", "InProcessSupervisorComms"])
def test_a_triggerer_and_dags_test_tell_nobody(connect, masker, caplog, name):
    other = connect(channel(name, **AIRFLOW_3_3))
    masker.add(PASSWORD)
    assert other.sent == []
    assert masker.has(PASSWORD)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("version", "run", "is_told"),
    [
        (AIRFLOW_3_1, lambda call: call(), True),
        (AIRFLOW_3_1, in_thread, False),
        (AIRFLOW_3_2, in_thread, True),
        (AIRFLOW_3_2, in_event_loop, False),
        (AIRFLOW_3_3, in_thread, True),
        (AIRFLOW_3_3, in_event_loop, True),
    ],
    ids=[
        "3.1",
        "3.1 in a thread",
        "3.2 in a thread",
        "3.2 in an event loop",
        "3.3 in a thread",
        "3.3 in an event loop",
    ],
)
def test_each_thread_that_this_airflow_allows_tells_it(connect, masker, caplog, version, run, is_told):
    supervisor = connect(channel(**version))
    run(lambda: masker.add(PASSWORD))
    run(lambda: masker.add("another password"))
    assert len(supervisor.sent) == (2 if is_told else 0)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [warning[:50] for warning in warnings] == (
        [] if is_told else ["the supervisor of this task could not be told what"]
    )
    assert masker.has(PASSWORD) == is_told


def deadlock() -> BaseException:
    from airflow.sdk.execution_time import comms

    return getattr(comms, "DeadlockImminentError", RuntimeError)(PASSWORD)


@pytest.mark.parametrize("make", [lambda: OSError(PASSWORD), deadlock])
def test_a_supervisor_that_does_not_answer_costs_one_warning_and_is_told_later(connect, masker, caplog, make):
    connect(channel(error=make(), **AIRFLOW_3_3))
    masker.add(PASSWORD)
    masker.add(PASSWORD)
    (record,) = caplog.records
    assert type(make()).__name__ in record.getMessage()
    assert PASSWORD not in record.getMessage()
    supervisor = connect(channel(**AIRFLOW_3_3))
    masker.add(PASSWORD)
    assert len(supervisor.sent) == 1


def test_what_ends_a_task_is_no_answer(connect, masker):
    connect(channel(error=KeyboardInterrupt(), **AIRFLOW_3_3))
    with pytest.raises(KeyboardInterrupt):
        masker.add(PASSWORD)


def test_a_forked_child_leaves_the_supervisor_of_its_parent_alone(connect, masker):
    connect(channel(**AIRFLOW_3_3))
    masker.add("another password")

    def in_the_child():
        masker.add(PASSWORD)
        masker.add("another password")
        inherited = sys.modules[RUNNER].SUPERVISOR_COMMS
        sys.modules[RUNNER].SUPERVISOR_COMMS = own = channel(**AIRFLOW_3_3)  # as in the process of a task
        masker.add("another password")
        return len(inherited.sent), len(own.sent)

    assert in_child(in_the_child) == (1, 1)


def masker_of_supervisor():
    """The masker in which a supervisor of this Airflow registers what it is told."""
    return masking.maskers()[-1]


def test_airflows_own_masker_masks_every_form(monkeypatch):
    """A supervisor in which this package was never imported has nothing else."""
    plain = type(masker_of_supervisor()).__mro__[1]()
    plain.add_mask(masking.message(PASSWORD, EPOCH))
    assert {plain.redact(form) for form in masking.forms(PASSWORD)} == {"***"}
    assert plain.redact(f"at {EPOCH} it was '' ") == f"at {EPOCH} it was '' "


def test_a_supervisor_with_this_package_compiles_nothing_and_forgets(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(masking, "password_masker", masking.PasswordMasker(clock))
    extended = masker_of_supervisor()
    monkeypatch.setattr(re, "compile", lambda *_: pytest.fail("a pattern is compiled"))
    for number in range(100):
        clock.pass_(60)
        extended.add_mask(masking.message(f"pass/word+{number:04}=", clock() + 600))
    extended.add_mask("pass/word+0099=")  # what Airflow registers itself
    monkeypatch.undo()
    for form in masking.forms("pass/word+0099="):
        assert extended.redact(form) == "***"
    assert extended.redact("pass/word+0000=") == "pass/word+0000="
    assert len(extended.replacer.forms) <= (600 + CLOCKS_DIFFER_SECONDS + 60) / 60 * len(masking.forms(PASSWORD))


def test_other_lists_are_masked_as_airflow_does(monkeypatch):
    extended = masker_of_supervisor()
    extended.add_mask(["one secret", "", "another secret"])
    extended.add_mask({"password": "a third secret"})
    assert extended.redact("one secret, another secret, a third secret") == "***, ***, ***"


def test_the_masker_is_extended_before_a_task_is_forked(monkeypatch):
    class Masker:
        replacer = None

    masker: Any = Masker()
    with monkeypatch.context() as patched:
        module = SimpleNamespace(_secrets_masker=lambda: masker)
        patched.setitem(sys.modules, "airflow.sdk._shared.secrets_masker", module)
        in_child(lambda: None)
    assert type(masker) is not Masker
    assert masker.replacer.forms == []
    masker.replacer = re.compile("secret")  # what Airflow compiles stays in use
    assert masker.replacer.sub("***", "a secret") == "a ***"


def test_what_was_registered_stays_when_airflow_compiles_and_when_a_task_is_forked():
    masking.PasswordMasker().add(PASSWORD)
    in_uri = "pass%2Fword%2B0001%3D"
    masker_of_supervisor().add_mask("a secret of the site")
    assert masker_of_supervisor().redact(f"{in_uri}, a secret of the site") == "***, ***"
    in_child(lambda: None)
    assert masker_of_supervisor().redact(f"{in_uri}, a secret of the site") == "***, ***"


@pytest.mark.parametrize("before", ["", "1", "12", "123"])
@pytest.mark.parametrize("after", ["", "1", "12"])
def test_base64_has_no_alignment_in_which_a_password_is_readable(before, after):
    masking.PasswordMasker().add(PASSWORD)
    for text in (PASSWORD, "pass%2Fword%2B0001%3D"):
        encoded = base64.b64encode(f"{before}{text}{after}".encode()).decode()
        left = masker_of_supervisor().redact(encoded)
        assert "***" in left
        # What is left are the characters around it, and up to a character at each end that they share with it.
        assert len(left.replace("***", "").rstrip("=")) <= (len(before) + len(after)) * 8 / 6 + 3


def test_a_refusal_is_one_line_of_bounded_length():
    text = "one\ntwo\x1b[31m" + "x" * 10_000
    carried = refusals.to_connection("analytics", text, airflow_parts.Connection)
    for shown in (json.loads(carried.extra)["refusal"], str(refusals.final_refusal(text) or "x")):
        assert shown.isprintable()
        assert len(shown) <= 4000
