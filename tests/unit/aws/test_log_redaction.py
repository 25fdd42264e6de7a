"""What botocore logs of a call, at any level, has no session token in it, and a cause is not told twice."""

from __future__ import annotations

import contextlib
import http.server
import logging
import os
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ClientError

from redshift_secrets.aws.client import AwsClient
from redshift_secrets.aws.errors import translate_errors
from redshift_secrets.aws.paging import ask_aws
from redshift_secrets.aws.recorded_credentials import RecordedCredentials
from redshift_secrets.errors import AwsError
from redshift_secrets.model import Scope
from redshift_secrets.settings import Settings

TOKEN = "a-session-token"
QUOTED = f"The Canonical String for this request should have been 'x-amz-security-token:{TOKEN}'"


class Sts(http.server.BaseHTTPRequestHandler):
    """Answers every request as AWS does to one that is signed with a wrong key."""

    def do_POST(self) -> None:  # the name that the server looks for
        self.rfile.read(int(self.headers["Content-Length"]))
        body = f"<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code><Message>{QUOTED}</Message></Error></ErrorResponse>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sts)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-key")
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    caplog.set_level(logging.DEBUG)


def test_a_role_that_is_refused_with_a_quotation_of_the_request(caplog: pytest.LogCaptureFixture) -> None:
    with serving() as url:
        role = {"role_arn": "arn:aws:iam::123456789012:role/airflow", "endpoint_url": url}
        with pytest.raises(AwsError) as caught:
            AwsClient(Settings.from_kwargs({"regions": ["eu-west-1"], **role})).list(
                Scope("cluster", "eu-west-1", None), ask_aws
            )
    assert (caught.value.operation, caught.value.code) == ("sts:AssumeRole", "SignatureDoesNotMatch")
    assert TOKEN not in caplog.text + str(caught.value)
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []
    assert any(each.name.startswith("botocore") for each in caplog.records)


@pytest.mark.parametrize(("minutes", "fails"), [(12, False), (5, True)])
def test_keys_that_cannot_be_renewed_are_a_warning_while_they_can_be_used(
    minutes: int, fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        raise ClientError({"Error": {"Code": "SignatureDoesNotMatch", "Message": QUOTED}}, "AssumeRole")

    until = datetime.now(timezone.utc) + timedelta(minutes=minutes)
    credentials = RecordedCredentials(RefreshableCredentials("A", "s", TOKEN, until, refuse, "assume-role"))
    with (
        pytest.raises(AwsError) if fails else contextlib.nullcontext(),
        translate_errors("redshift:DescribeClusters", "every cluster", "me"),
    ):
        assert credentials.get_frozen_credentials().access_key == "A"
    assert TOKEN not in caplog.text
    warnings = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert warnings == ([] if fails else ["Refreshing temporary credentials failed during advisory refresh period."])
