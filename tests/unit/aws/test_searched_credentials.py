"""While credentials are searched it is their source that a lookup waits for, and AWS was not asked yet."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from redshift_secrets.aws.client import AwsClient
from redshift_secrets.aws.exchanges import Exchange, Exchanges
from redshift_secrets.aws.paging import ask_aws
from redshift_secrets.errors import AwsError
from redshift_secrets.model import Scope
from redshift_secrets.settings import Settings
from tests.support.helpers import BOUND
from tests.unit.aws.credential_sources import BlockingProcess

CLUSTERS = Scope("cluster", "eu-west-1", None)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BlockingProcess]:
    program = BlockingProcess(tmp_path)
    (tmp_path / "config").write_text(f"[profile process]\ncredential_process = {program.command}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    yield program
    program.close()


def test_a_program_that_takes_its_time_is_named_meanwhile(program: BlockingProcess) -> None:
    settings = {
        "regions": ["eu-west-1"],
        "profile_name": "process",
        "endpoint_url": "http://127.0.0.1:1",
        "config": {"retries": {"total_max_attempts": 1}},
    }
    client = AwsClient(Settings.from_kwargs(settings))
    failed: list[AwsError] = []

    def list_clusters() -> None:
        try:
            client.list(CLUSTERS, ask_aws)
        except AwsError as error:
            failed.append(error)

    thread = threading.Thread(target=list_clusters)
    thread.start()
    program.await_start()
    for kind, region in (("cluster", "eu-west-1"), ("workgroup", "us-east-1")):
        found = client.unanswered(kind, region)  # type: ignore[arg-type]
        assert found == ["the AWS credentials of this process, from a credential_process"]
    program.release()
    thread.join(BOUND)
    assert client.unanswered("cluster", "eu-west-1") == []
    assert [error.code for error in failed] == ["Unreachable"]


def test_what_is_asked_for_credentials_is_named_instead_of_their_source() -> None:
    exchanges = Exchanges()
    with exchanges.search("a role of the AWS configuration files"):
        exchanges._begin(Exchange("sts:AssumeRole", "https://sts", "eu-west-1", None))
        assert [each.operation for each in exchanges.unanswered((), "eu-west-1")] == ["sts:AssumeRole"]
    assert [each.operation for each in exchanges.unanswered((), "eu-west-1")] == ["sts:AssumeRole"]
    with exchanges.search("the role of the container"):
        pass
    assert exchanges.unanswered((), "eu-west-1") == []
