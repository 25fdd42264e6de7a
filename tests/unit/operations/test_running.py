"""Calls that are made a few at a time, and what becomes of those that fail or hang. Nothing here waits for time to pass."""

from __future__ import annotations

import threading

from redshift_secrets.errors import AwsError, UnexpectedError
from redshift_secrets.operations.running import Call, NoAnswerError, Runner
from tests.support.helpers import BOUND


def timed_out(_number=0):
    raise AwsError("redshift:DescribeClusters", "all", "me", "TimedOut", "No answer.", "Check.", True)


def test_results_come_in_the_order_of_the_calls_whatever_ends_first():
    later = threading.Event()

    def first():
        assert later.wait(BOUND)
        return 1

    def second():
        later.set()
        return 2

    shown = []
    assert Runner(BOUND, shown.append).run("counting", [Call("a", first), Call("b", second)]) == [1, 2]
    assert shown == ["counting 0 of 2", "counting 1 of 2"]


def test_no_more_than_a_few_at_a_time():
    running, most, lock = [0], [0], threading.Lock()

    def work():
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        with lock:
            running[0] -= 1

    Runner(BOUND, size=3).run("x", [Call("x", work)] * 50)
    assert most[0] <= 3


def test_an_error_is_a_result_and_one_from_elsewhere_loses_its_text():
    def fail():
        raise ValueError("planted")

    known, unknown = Runner(BOUND).run("x", [Call("a", timed_out), Call("b", fail)])
    assert isinstance(known, AwsError)
    assert isinstance(unknown, UnexpectedError)
    assert "planted" not in str(unknown)


def test_what_hangs_is_given_up_and_the_others_are_still_made():
    never = threading.Event()
    try:
        hung, done = Runner(0.0, size=1).run("x", [Call("the first", never.wait), Call("b", never.set)])
    finally:
        never.set()
    assert isinstance(hung, NoAnswerError)
    assert str(hung) == "the first took longer than 0 s"
    assert done is None or isinstance(done, NoAnswerError)


def test_a_server_that_has_not_answered_is_not_asked_again():
    asked = []

    def ask():
        asked.append(1)
        timed_out()

    runner = Runner(BOUND, size=1)
    server = ("redshift", "eu-west-1")
    results = runner.run(
        "x", [Call("a", ask, server), Call("b", ask, server), Call("c", lambda: 3, ("redshift", "other"))]
    )
    assert len(asked) == 1
    assert results[0] is results[1]
    assert results[2] == 3
    assert runner.run("x", [Call("d", ask, server)]) == [results[0]]


def test_a_server_that_denies_is_asked_again():
    def deny():
        raise AwsError("redshift:DescribeClusters", "all", "me", "AccessDenied", "No.", "Grant it.")

    results = Runner(BOUND, size=1).run("x", [Call("a", deny, ("s", "r")), Call("b", lambda: 2, ("s", "r"))])
    assert results[1] == 2


def test_a_call_in_the_background():
    runner = Runner(BOUND)
    assert runner.begin(Call("x", lambda: 5)).result() == 5
    assert isinstance(runner.begin(Call("x", timed_out)).result(), AwsError)
    never = threading.Event()
    pending = Runner(0.0).begin(Call("the store", never.wait))
    assert str(pending.result()) == "the store took longer than 0 s"
    never.set()


def test_without_a_thread_to_give_calls_are_made_one_after_the_other(monkeypatch):
    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert Runner(BOUND).run("x", [Call("a", lambda: 1), Call("b", lambda: 2)]) == [1, 2]
    assert Runner(BOUND).begin(Call("c", lambda: 3)).result() == 3


def test_who_does_not_answer_is_named():
    never = threading.Event()
    call = Call("the list", never.wait, ("redshift", "eu-west-1"), lambda: "https://redshift did not answer")
    (found,) = Runner(0.0).run("x", [call])
    never.set()
    assert str(found) == "the list took longer than 0 s: https://redshift did not answer"
