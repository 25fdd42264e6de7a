"""Sessions and clients: a fork never waits for the network or another program while a client is created."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import CredentialRetrievalError, NoCredentialsError, ReadTimeoutError
from botocore.loaders import Loader

from redshift_secrets.aws.client import AwsClient
from redshift_secrets.aws.fork_safe_session import ForkSafeSession
from redshift_secrets.aws.paging import ask_aws
from redshift_secrets.aws.sessions import Sessions
from redshift_secrets.errors import AwsError
from redshift_secrets.model import Scope
from redshift_secrets.settings.settings import Settings
from tests.support.fakes import Clock
from tests.support.helpers import BOUND, in_child
from tests.unit.aws.credential_sources import BlockingProcess, MetadataService, inside_gate

REGION = "eu-west-1"


ROLE = "arn:aws:iam::123456789012:role/redshift"


def sessions_of(**settings: Any) -> Sessions:
    return Sessions(Settings.from_kwargs({"regions": [REGION], **settings}))


def start(work: Callable[[], Any]) -> Future[Any]:
    call: Future[Any] = Future()

    def run() -> None:
        try:
            call.set_result(work())
        except Exception as error:
            call.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return call


def region_of_client(sessions: Sessions, role_arn: str | None = None) -> str:
    return str(sessions.client("redshift", region=REGION, role_arn=role_arn).meta.region_name)


@pytest.fixture
def credential_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BlockingProcess]:
    process = BlockingProcess(tmp_path)
    configuration = tmp_path / "config"
    configuration.write_text(
        f"[profile process]\ncredential_process = {process.command}\n"
        f"[profile chain]\nrole_arn = {ROLE}\nsource_profile = process\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(configuration))
    yield process
    process.close()


@pytest.fixture
def metadata_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str | None], MetadataService]]:
    started = []

    def start_service(role: str | None = "airflow") -> MetadataService:
        service = MetadataService(role)
        started.append(service)
        monkeypatch.delenv("AWS_EC2_METADATA_DISABLED", raising=False)
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url)
        monkeypatch.setenv("AWS_METADATA_SERVICE_TIMEOUT", str(int(BOUND)))
        return service

    yield start_service
    for service in started:
        service.close()


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


class TestForksDoNotWaitForCredentials:
    @pytest.mark.parametrize(
        ("settings", "use", "outcome"),
        [
            ({"profile_name": "process"}, region_of_client, REGION),
            ({"profile_name": "chain"}, region_of_client, REGION),
            ({"profile_name": "process", "role_arn": ROLE}, region_of_client, REGION),
            (
                {"profile_name": "process", "accounts": [{"role_arn": ROLE}]},
                lambda sessions: region_of_client(sessions, ROLE),
                REGION,
            ),
            (
                {"profile_name": "process", "endpoint_url": "http://127.0.0.1:1"},
                lambda sessions: sessions._ask_identity(REGION),
                None,
            ),
        ],
        ids=["profile", "role of a profile", "role_arn", "account", "caller identity"],
    )
    def test_a_credential_process(
        self, credential_process: BlockingProcess, settings: Any, use: Callable[[Sessions], Any], outcome: Any
    ) -> None:
        sessions = sessions_of(**settings)
        calls = [start(lambda: use(sessions)) for _ in range(2)]
        credential_process.await_start()
        assert inside_gate() == {}
        assert in_child(lambda: use(sessions)) == outcome
        credential_process.release()
        assert [call.result(BOUND) for call in calls] == [outcome] * 2

    def test_the_instance_metadata_service(self, metadata_service: Callable[..., MetadataService]) -> None:
        service = metadata_service()
        service.hold.clear()
        sessions = sessions_of()
        call = start(lambda: region_of_client(sessions))
        assert service.entered.wait(BOUND)
        assert inside_gate() == {}
        assert in_child(lambda: region_of_client(sessions)) == REGION
        service.hold.set()
        assert call.result(BOUND) == REGION
        assert service.inside
        assert not any(service.inside)

    def test_the_search_for_credentials_imports_nothing(self, metadata_service: Callable[..., MetadataService]) -> None:
        """A child forked in the middle of an import would wait for it forever."""
        metadata_service()
        done = subprocess.run(
            [sys.executable, "-c", NEW_MODULES],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            timeout=BOUND,
            check=True,
        )
        assert done.stdout == "iam-role []\n"


NEW_MODULES = """
import sys
from redshift_secrets.aws.sessions import Sessions
from redshift_secrets.settings.settings import Settings
session = Sessions(Settings.from_kwargs({"regions": ["eu-west-1"]}))._session(None)
before = set(sys.modules)
method = session.get_credentials().method
print(method, sorted(set(sys.modules) - before))
"""


class TestNoCredentials:
    def test_no_client_is_created_and_the_metadata_service_is_not_asked_inside_the_gate(
        self, metadata_service: Callable[..., MetadataService], monkeypatch: pytest.MonkeyPatch, keys: None
    ) -> None:
        service = metadata_service(None)
        with monkeypatch.context() as without:
            without.delenv("AWS_ACCESS_KEY_ID")
            without.delenv("AWS_SECRET_ACCESS_KEY")
            sessions = sessions_of()
            with pytest.raises(NoCredentialsError):
                sessions.client("redshift", region=REGION, role_arn=None)
        assert service.inside
        assert not any(service.inside)

    @pytest.mark.parametrize(
        ("kind", "operation"), [("cluster", "redshift:DescribeClusters"), ("workgroup", "tag:GetResources")]
    )
    def test_the_error_names_the_operation_that_needs_them(self, kind: Any, operation: str) -> None:
        client = AwsClient(Settings.from_kwargs({"regions": [REGION]}), tagging_patience_seconds=BOUND)
        with pytest.raises(AwsError) as caught:
            client.list(Scope(kind, REGION, None), ask_aws)
        assert str(caught.value) == (
            f"{operation} on every {kind} in eu-west-1 as the default AWS identity of this process failed (NoCredentials):"
            " Unable to locate credentials. Give this process an instance profile, a task role or a pod role, or set"
            " profile_name."
        )

    def test_a_role_is_not_assumed_without_them(self) -> None:
        client = AwsClient(Settings.from_kwargs({"regions": [REGION], "role_arn": ROLE}))
        with pytest.raises(AwsError) as caught:
            client.list(Scope("cluster", REGION, None), ask_aws)
        assert (caught.value.operation, caught.value.resource, caught.value.identity, caught.value.code) == (
            "sts:AssumeRole",
            ROLE,
            "the default AWS identity of this process",
            "NoCredentials",
        )


class TestCredentialsThatCannotBeFound:
    """botocore would search again for each client: with a silent metadata service, 2 s each, one after another."""

    CLIENTS = tuple(
        (service, region)
        for service in ("redshift", "redshift-serverless", "sts")
        for region in ("eu-west-1", "eu-west-3", "us-east-1", "us-west-2")
    )

    @pytest.mark.parametrize(
        "failure", [None, CredentialRetrievalError(provider="custom-process", error_msg="exit 1"), TimeoutError()]
    )
    def test_are_searched_for_once_for_all_clients_and_again_after_a_pause(
        self, monkeypatch: pytest.MonkeyPatch, failure: Exception | None
    ) -> None:
        searches, now = [], Clock(0)

        def search(_session: object) -> None:
            searches.append(now())
            if failure is not None:
                raise failure

        monkeypatch.setattr(botocore.session.Session, "get_credentials", search)
        monkeypatch.setattr(ForkSafeSession, "monotonic", staticmethod(now))
        sessions = sessions_of()
        for _ in range(2):
            for service, region in self.CLIENTS:
                with pytest.raises(NoCredentialsError if failure is None else type(failure)):
                    sessions.client(service, region=region, role_arn=None)
            now.pass_(5)
        assert searches == [0, 5]

    def test_are_used_once_they_are_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = Clock(0)
        monkeypatch.setattr(ForkSafeSession, "monotonic", staticmethod(now))
        sessions = sessions_of()
        with pytest.raises(NoCredentialsError):
            region_of_client(sessions)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
        now.pass_(5)
        assert region_of_client(sessions) == "eu-west-1"


@pytest.mark.usefixtures("keys")
class TestCallerIdentity:
    ME = "arn:aws:sts::123456789012:assumed-role/airflow/i-1"

    class Sts:
        """Answers `arn`, or not at all where that is `None`; waits for `hold` first."""

        def __init__(self, arn: str | None) -> None:
            self.arn = arn
            self.asked = 0
            self.entered = threading.Event()
            self.hold = threading.Event()

        def get_caller_identity(self) -> dict[str, str]:
            self.asked += 1
            self.entered.set()
            assert self.hold.wait(BOUND)
            if self.arn is None:
                raise ReadTimeoutError(endpoint_url="https://sts")
            return {"Arn": self.arn}

    @pytest.fixture
    def sts(self, monkeypatch: pytest.MonkeyPatch) -> Sts:
        service = self.Sts(self.ME)
        monkeypatch.setattr(Sessions, "_create_client", lambda *_arguments: service)
        return service

    @pytest.mark.parametrize("arn", [ME, None])
    def test_threads_wait_for_the_one_that_asks(self, sts: Sts, arn: str | None) -> None:
        sts.arn = arn
        sessions = sessions_of()
        first = start(lambda: sessions.sts_identity(REGION))
        assert sts.entered.wait(BOUND)
        others = [start(lambda: sessions.sts_identity(REGION)) for _ in range(5)]
        sts.hold.set()
        assert [call.result(BOUND) for call in [first, *others]] == [arn] * 6
        assert sts.asked == 1

    def test_no_answer_is_an_answer_for_a_minute(self, sts: Sts) -> None:
        sts.arn = None
        sts.hold.set()
        now = Clock(0)
        sessions = Sessions(Settings.from_kwargs({"regions": [REGION]}), monotonic=now)
        for asked in (1, 2):
            assert not sessions.identity_is_known
            for _ in range(2):
                assert sessions.sts_identity(REGION) is None
                assert sessions.identity_is_known
            assert sts.asked == asked
            now.pass_(60)
        sts.arn = self.ME
        assert sessions.sts_identity(REGION) == self.ME
        now.pass_(600)
        assert sessions.sts_identity(REGION) == self.ME
        assert sts.asked == 3

    def test_an_answer_without_an_identity_is_none(self, sts: Sts, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sts, "get_caller_identity", lambda: {"message": "<html>Log in</html>"})
        assert sessions_of().sts_identity(REGION) is None

    @pytest.mark.parametrize(
        ("settings", "named", "asked_in"),
        [
            ({"regions": ["eu-west-3", "us-east-1"]}, "us-west-2", "us-west-2"),
            ({"regions": ["eu-west-3", "us-east-1"], "region_name": "eu-west-1"}, None, "eu-west-3"),
            ({"region_name": "eu-west-1"}, None, "eu-west-1"),
            ({}, None, "sa-east-1"),
        ],
    )
    def test_the_region_it_is_asked_in(
        self, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], named: str | None, asked_in: str
    ) -> None:
        regions = []

        def sts_identity(_sessions: Sessions, region: str) -> str:
            regions.append(region)
            return self.ME

        monkeypatch.setenv("AWS_DEFAULT_REGION", "sa-east-1")
        monkeypatch.setattr(Sessions, "sts_identity", sts_identity)
        client = AwsClient(Settings.from_kwargs(settings))
        assert client.sts_identity(named) == "arn:aws:sts::123456789012:assumed-role/airflow"
        assert regions == [asked_in]


@pytest.mark.parametrize("other_sdks", [False, True])
def test_the_default_region(other_sdks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION", raising=False)
    if other_sdks:
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert AwsClient(Settings.from_kwargs({"region_name": "eu-west-3"})).default_region() == "eu-west-3"
    with pytest.raises(AwsError, match="no AWS region is configured") as caught:
        AwsClient(Settings.from_kwargs({})).default_region()
    assert caught.value.code == "Misconfigured"
    assert ("boto3 does not read AWS_REGION" in caught.value.advice) == other_sdks


@pytest.mark.usefixtures("keys")
class TestDefaultsMode:
    """With `auto`, botocore asks the metadata service for the region whenever it creates a client."""

    @pytest.mark.parametrize("place", ["environment", "profile", "setting"])
    def test_auto_does_not_ask_the_metadata_service(
        self,
        place: str,
        metadata_service: Callable[..., MetadataService],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        service = metadata_service()
        settings: dict[str, Any] = {}
        if place == "environment":
            monkeypatch.setenv("AWS_DEFAULTS_MODE", "auto")
        elif place == "profile":
            (tmp_path / "config").write_text("[default]\ndefaults_mode = Auto\n")
            monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        else:
            settings["config"] = {"defaults_mode": "auto"}
        client = sessions_of(**settings).client("redshift", region=REGION, role_arn=None)
        assert service.inside == []
        assert client.meta.config.connect_timeout == 2.5

    def test_the_modes_that_auto_chooses_from_differ_in_connect_timeouts_alone(self) -> None:
        modes = Loader().load_data("sdk-default-configuration")["modes"]
        changed = {name for mode in ("standard", "in-region", "cross-region") for name in modes[mode]}
        assert changed <= {"connectTimeoutInMillis", "tlsNegotiationTimeoutInMillis"}


def test_every_client_is_created_inside_the_gate_and_in_the_configured_region(
    credential_process: BlockingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the STS client with which botocore assumes the role of a profile; a profile without a region."""
    created = []
    create_client = botocore.session.Session.create_client

    def record(core: Any, service: str, **arguments: Any) -> Any:
        created.append((service, arguments["region_name"], list(inside_gate()) == [threading.get_ident()]))
        return create_client(core, service, **arguments)

    monkeypatch.setattr(botocore.session.Session, "create_client", record)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    credential_process.release()
    sessions = sessions_of(profile_name="chain", config={"retries": {"total_max_attempts": 1}})
    client = sessions.client("redshift", region=REGION, role_arn=None)
    with pytest.raises(Exception, match="Could not connect"):
        client.describe_clusters()
    assert created == [("redshift", REGION, True), ("sts", REGION, True)]


def test_the_settings_are_in_every_client(keys: None) -> None:
    client = sessions_of(config={"read_timeout": 1}).client("redshift", region=REGION, role_arn=None)
    assert isinstance(client.meta.config, Config)
    assert (client.meta.config.read_timeout, client.meta.config.connect_timeout) == (1, 2.5)
