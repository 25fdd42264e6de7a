"""Failures with one cause are one verdict."""

from __future__ import annotations

from redshift_secrets.errors import AwsError
from redshift_secrets.operations.doctor.verdicts import Failure, by_cause, names, verdict
from redshift_secrets.operations.running import NoAnswerError


def failure(
    where, code="AccessDenied", identity="me", operation="redshift:DescribeClusters", check="permissions", **changes
):
    host_only, advice = changes.pop("host_only", False), changes.pop("advice", "Grant it.")
    error = AwsError(operation, f"all of {where}", identity, code, "Not allowed.", advice, host_only)
    return Failure(check, changes.pop("kind", "listing"), where, error)


def test_one_failure_is_told_in_full():
    (found,) = by_cause([failure("eu-west-1")])
    assert found.status == "problem"
    assert found.message == (
        "redshift:DescribeClusters on all of eu-west-1 as me failed (AccessDenied): Not allowed. Grant it."
    )


def test_what_one_identity_may_not_do_is_one_verdict_for_each_identity():
    found = by_cause([failure("a"), failure("b"), failure("c", identity="other")])
    assert [each.where for each in found] == [("a", "b"), ("c",)]
    assert found[0].message == (
        "redshift:DescribeClusters as me failed (AccessDenied) for 2 listings (a, b). The first: Not allowed. Grant it."
    )


def test_what_is_to_be_granted_is_named_for_each():
    advice = "Grant redshift:DescribeClusters on all of a to me."
    (found,) = by_cause(
        [failure(f"{each} as me", advice=advice.replace("of a", f"of {each} as me")) for each in "abcde"]
    )
    assert found.message == (
        "redshift:DescribeClusters as me failed (AccessDenied) for 5 listings (a, b, c, d and 1 more). The first: Not allowed."
        " Grant redshift:DescribeClusters on all of a as me, all of b as me, all of c as me, all of d as me and 1 more to me."
    )


def test_each_permission_that_a_call_takes_is_a_verdict_of_its_own():
    mint = {"operation": "redshift:GetClusterCredentials", "kind": "login"}
    found = by_cause(
        [
            failure("a", advice="Grant redshift:JoinGroup on dbgroup:a/x to me.", **mint),
            failure("b", advice="Grant redshift:GetClusterCredentials on dbuser:b/etl to me.", **mint),
        ]
    )
    assert [each.message.rpartition("Grant ")[2].split()[0] for each in found] == [
        "redshift:JoinGroup",
        "redshift:GetClusterCredentials",
    ]


def test_operations_are_granted_one_by_one_and_credentials_fail_for_all():
    denied = [failure("a"), failure("a", operation="tag:GetResources")]
    assert len(by_cause(denied)) == 2
    expired = [
        failure("a", "ExpiredToken", host_only=True),
        failure("b", "ExpiredToken", host_only=True, operation="redshift:GetClusterCredentials", kind="login"),
    ]
    (found,) = by_cause(expired)
    assert found.message.startswith("1 listing and 1 login (a, b) failed for one reason: redshift:DescribeClusters")


def test_what_is_throttled_is_not_known():
    (found,) = by_cause([failure("a", "Throttling")])
    assert found.status == "unknown"


def test_different_calls_without_an_answer_are_different_causes():
    found = by_cause([Failure("permissions", "call", each, NoAnswerError(f"{each} did not end")) for each in "ab"])
    assert [each.message for each in found] == ["a did not end", "b did not end"]


def test_calls_to_one_server_without_an_answer_are_one_cause():
    server = ("redshift", "eu-west-1")
    failures = [Failure("permissions", "call", each, NoAnswerError(f"{each} did not end", server)) for each in "ab"]
    assert [each.message for each in by_cause(failures)] == ["2 calls (a, b) failed for one reason: a did not end"]


def test_it_is_in_the_check_of_the_first():
    (found,) = by_cause([failure("a", check="caller"), failure("b", check="permissions")])
    assert found.check == "caller"


def test_names_are_a_few_and_lines_are_lines():
    assert names(["a", "b", "a"]) == "a, b"
    assert names(list("abcdef")) == "a, b, c, d and 2 more"
    assert verdict("tags", "ok", "a\nb\x1b[31m").message == "a b [31m"
