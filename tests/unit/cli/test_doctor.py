"""How verdicts look in a pipe, and on terminals of 80 and 200 columns."""

from __future__ import annotations

import re
import sys

import pytest

from redshift_secrets.cli.doctor import lines
from redshift_secrets.operations.doctor.verdicts import Verdict

ARN = "arn:aws:sts::123456789012:assumed-role/a-role-with-quite-a-name/i-0123456789"
VERDICTS = [
    Verdict("caller", "ok", f"{ARN} (from the instance's role)"),
    Verdict(
        "permissions",
        "problem",
        "redshift:GetClusterCredentialsWithIAM as arn:aws:iam::222222222222:role/reader failed (AccessDenied) for 4 logins (cluster a as"
        " the IAM identity, cluster b as the IAM identity). The first: Not allowed. Grant it.",
    ),
    Verdict("clock", "ok", "within 1 s of AWS"),
]
AT_80 = """\
caller       ok
    arn:aws:sts::123456789012:assumed-role/a-role-with-quite-a-name/i-0123456789
    (from the instance's role)
permissions  problem  redshift:GetClusterCredentialsWithIAM as
    arn:aws:iam::222222222222:role/reader failed (AccessDenied) for 4 logins
    (cluster a as the IAM identity, cluster b as the IAM identity). The first:
    Not allowed. Grant it.
clock        ok       within 1 s of AWS
"""
AT_200 = """\
caller       ok       arn:aws:sts::123456789012:assumed-role/a-role-with-quite-a-name/i-0123456789 (from the instance's role)
permissions  problem  redshift:GetClusterCredentialsWithIAM as arn:aws:iam::222222222222:role/reader failed (AccessDenied) for 4 logins (cluster a as the IAM identity, cluster b as the IAM identity).
                      The first: Not allowed. Grant it.
clock        ok       within 1 s of AWS
"""


def without_colours(line):
    return re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip()


@pytest.mark.parametrize(("columns", "shown"), [(80, AT_80), (200, AT_200)])
def test_on_a_terminal(monkeypatch, columns, shown):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    found = list(lines(VERDICTS, columns))
    assert "".join(f"{without_colours(line)}\n" for line in found) == shown
    assert "\x1b[31mproblem\x1b[0m" in "".join(found)


def test_in_a_pipe_each_verdict_is_a_line_without_colours():
    found = list(lines(VERDICTS, None))
    assert [line.split()[:2] for line in found] == [[each.check, each.status] for each in VERDICTS]
    assert [line[22:] for line in found] == [each.message for each in VERDICTS]
