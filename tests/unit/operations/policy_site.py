"""A site in two accounts with every way of authenticating, on a simulated AWS that enforces policies."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import boto3

from redshift_secrets.aws.client import AwsClient
from redshift_secrets.cache.refresh import Refresher
from redshift_secrets.errors import CannotServeError
from redshift_secrets.local import config
from redshift_secrets.local.aws import SimulatedAws
from redshift_secrets.local.aws.errors import AwsError
from redshift_secrets.local.tokens import TokenRegistry
from redshift_secrets.lookup.broker import Broker
from redshift_secrets.lookup.metrics import NoMetrics
from redshift_secrets.model import TaskContext
from redshift_secrets.operations.policy import as_code, plan_policies
from redshift_secrets.settings import Settings
from tests.support.fakes import Clock

HOME, REMOTE = "123456789012", "210987654321"
CALLER = f"arn:aws:iam::{HOME}:role/service/airflow"
BASE_ROLE = f"arn:aws:iam::{HOME}:role/redshift-reader"
REMOTE_ROLE = f"arn:aws:iam::{REMOTE}:role/airflow-remote"
KEY = f"arn:aws:kms:eu-west-1:{HOME}:key/11111111-2222-3333-4444-555555555555"
EXTERNAL_ID = "agreed-word"

WAREHOUSES: dict[str, Any] = {
    "roles": [{"arn": role, "tag_session": True} for role in (BASE_ROLE, REMOTE_ROLE)],
    "clusters": [
        {
            "identifier": "prod",
            "manage_master_password": True,
            "master_password_secret_kms_key_id": KEY,
            "vpc_endpoints": ["from-vpc"],
            "database": "dwh",
            "tags": {
                "airflow:conn-id": "analytics newcomer nightly by-iam by-secret by-vpc",
                "airflow:db-user/analytics": "etl",
                "airflow:db-user/newcomer": "newcomer",
                "airflow:auto-create/newcomer": "true",
                "airflow:db-groups/newcomer": "loaders readers",
                "airflow:auth/by-iam": "iam",
                "airflow:auth/by-secret": "secret",
                "airflow:database/by-vpc": "other",
                "airflow:endpoint/by-vpc": "vpc:from-vpc",
            },
        },
        {
            "identifier": "driver",
            "tags": {
                "airflow:conn-id": "by-driver",
                "airflow:auth": "connector",
                "airflow:db-user": "etl",
                "airflow:db-groups": "loaders",
                "airflow:auto-create": "true",
            },
        },
        {"identifier": "asleep", "status": "paused", "tags": {"airflow:conn-id": "asleep"}},
        {
            "identifier": "remote",
            "region": "us-east-1",
            "account": REMOTE,
            "tags": {
                "airflow:conn-id": "remote remote-groups",
                "airflow:db-user/remote": "etl",
                "airflow:auth/remote-groups": "iam",
                "airflow:db-user/remote-groups": "bi",
                "airflow:db-groups/remote-groups": "readers loaders",
            },
        },
    ],
    "workgroups": [
        {
            "name": "adhoc",
            "manage_admin_password": True,
            "vpc_endpoints": ["from-vpc"],
            "tags": {
                "airflow:conn-id": "serverless serverless-secret serverless-vpc",
                "airflow:auth/serverless-secret": "secret",
                "airflow:endpoint/serverless-vpc": "vpc:from-vpc",
            },
        },
        {"name": "born", "status": "CREATING", "tags": {"airflow:conn-id": "born"}},
        {
            "name": "remote-adhoc",
            "region": "us-east-1",
            "account": REMOTE,
            "vpc_endpoints": ["from-vpc"],
            "tags": {
                "airflow:conn-id": "remote-roles remote-vpc",
                "airflow:db-user/remote-roles": "etl",
                "airflow:db-roles/remote-roles": "readers loaders",
                "airflow:endpoint/remote-vpc": "vpc:from-vpc",
            },
        },
    ],
}
SETTINGS: dict[str, Any] = {
    "regions": ["eu-west-1"],
    "accounts": [{"role_arn": REMOTE_ROLE, "external_id": EXTERNAL_ID, "regions": ["us-east-1"]}],
    "allow_admin_secret": True,
    "db_user": "etl_{dag_id}",
}
WITH_ROLE = {
    "role_arn": BASE_ROLE,
    "assume_role_kwargs": {"Tags": [{"Key": "cost-center", "Value": "7"}], "SourceIdentity": "airflow-prod"},
}
BOUND = 30.0
TASK = TaskContext(dag_id="sales")


class Endpoints:
    def address_of(self, warehouse_arn: str, endpoint: str) -> tuple[str, int]:
        return "127.0.0.1", 5439


class EnforcingSite:
    """The site with its policies, which may be changed. `asked` is what IAM was asked, `denied` what it did not allow."""

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings.from_kwargs({**SETTINGS, **settings})
        clock = Clock()
        self.aws = SimulatedAws(config.parse(WAREHOUSES), TokenRegistry(clock), endpoints=Endpoints(), clock=clock)
        self._clock = clock
        self.asked: list[tuple[Any, ...]] = []
        self.denied: list[str] = []
        self._check = self.aws._authorization.check
        self.aws._authorization.check = self._watched_check  # type: ignore[method-assign]

    def _watched_check(self, *question: Any) -> None:
        self.asked.append(question)
        try:
            self._check(*question)
        except Exception as error:
            self.denied.append(str(error))
            raise

    def denials(self) -> list[str]:
        """What of all that was asked is not allowed now."""
        denied = []
        for question in self.asked:
            try:
                self._check(*question)
            except AwsError as error:
                denied.append(error.message)
        return denied

    def environment(self) -> dict[str, str]:
        account, name = CALLER.split(":")[4], CALLER.rpartition("/")[2]
        key = self.aws.add_access_key(f"arn:aws:sts::{account}:assumed-role/{name}/worker-1")
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        return {**self.aws.environment(), **dict(zip(names, map(str, key), strict=True))}

    def printed(self, caller: str | None = CALLER) -> list[dict[str, Any]]:
        """What `redshift-secrets policy` prints, with the external id in its place."""
        snapshot = self.broker(self.client()).inventory.snapshot()
        specs = [spec for found in snapshot.specs.values() for spec in found]
        keys = self.aws._inventory.secret_keys()
        site = plan_policies(
            self.settings,
            specs,
            {each.scope: str(each.error) for each in snapshot.unseen},
            self.settings.regions,
            caller,
            lambda spec: keys[spec.warehouse.admin_secret_arn],
        )
        text = as_code(site, "json").replace("<setting accounts[0].external_id>", EXTERNAL_ID)
        assert "<" not in text
        return list(json.loads(text))

    def allow(self, printed: list[dict[str, Any]]) -> None:
        self.aws.set_policies(config.parse({"policies": printed}).policies)

    def client(self) -> AwsClient:
        """A client that has assumed no role yet."""
        return AwsClient(self.settings, clock=self._clock, tagging_patience_seconds=BOUND)

    def broker(self, client: AwsClient) -> Broker:
        """A broker that remembers nothing."""
        return Broker(
            self.settings,
            client,
            Refresher(timeout_seconds=BOUND, clock=self._clock, rand=lambda: 0.0),
            mask=lambda _password, _expires_at: None,
            metrics=NoMetrics(),
        )

    def outcomes(self, client: AwsClient) -> dict[str, str]:
        """What becomes of each lookup: its login, or the state it is refused for, or `failed`."""
        return dict(self._outcomes(client))

    def works(self, client: AwsClient, expected: dict[str, str]) -> bool:
        """Whether `outcomes` would be these; ends with the first that is not."""
        with closing(self._outcomes(client)) as outcomes:
            return all(expected[lookup] == outcome for lookup, outcome in outcomes)

    def _outcomes(self, client: AwsClient) -> Generator[tuple[str, str], None, None]:
        self.denied.clear()
        self.asked.clear()
        broker = self.broker(client)
        for conn_id in CONN_IDS:
            mint = self._driver_mints if conn_id == "by-driver" else self._outcome
            yield conn_id, mint(broker, conn_id)
        # In some networks something else answers for the tagging API.
        with self._changed(self._no_tagging_api):
            broker = self.broker(client)
            for conn_id in SERVERLESS:
                yield f"{conn_id} without the tagging API", self._outcome(broker, conn_id)
        # A warehouse is described before it is refused for its state.
        with self._changed(self._all_in_creation):
            broker = self.broker(client)
            for conn_id in SERVERLESS:
                yield f"{conn_id} in creation", self._outcome(broker, conn_id)
        with self._changed(self._all_awake):
            broker = self.broker(client)
            for conn_id in ("asleep", "born"):
                yield f"{conn_id} awake", self._outcome(broker, conn_id)

    @contextmanager
    def _changed(self, change: Callable[[], object]) -> Iterator[None]:
        before = {state.arn: state.status for state in self.aws._inventory.all()}
        change()
        try:
            yield
        finally:
            self.aws.faults.clear()
            for arn, status in before.items():
                self.aws.set_status(arn, status)

    def _no_tagging_api(self) -> None:
        self.aws.faults.add("resourcegroupstaggingapi:GetResources", "html")

    def _all_in_creation(self) -> None:
        for state in self.aws._inventory.all():
            self.aws.set_status(state.arn, "CREATING")

    def _all_awake(self) -> None:
        for state in self.aws._inventory.all():
            self.aws.set_status(state.arn, "available" if ":cluster:" in state.arn else "AVAILABLE")

    @staticmethod
    def _outcome(broker: Broker, conn_id: str) -> str:
        try:
            fields = broker.connection(conn_id, None, TASK)
        except CannotServeError as error:
            state = next(
                (state for state in (" is paused", " is CREATING", " is creating") if state in str(error)), None
            )
            return "failed" if state is None or "failed (" in str(error) else f"refused:{state.lower()}"
        except Exception:
            return "failed"
        return "missing" if fields is None else f"{fields.login} at {fields.host}"

    @staticmethod
    def _driver_mints(broker: Broker, conn_id: str) -> str:
        """As redshift_connector does, with what is in `extra`."""
        with suppress(Exception):
            fields = broker.connection(conn_id, None, TASK)
            if fields is None or "db_groups" not in fields.extra:
                return str(fields and fields.login)
            extra = fields.extra
            session = boto3.Session(region_name=str(extra["region"]))
            minted = session.client("redshift").get_cluster_credentials(
                DbUser=extra["db_user"],
                DbName=extra["database"],
                DbGroups=extra["db_groups"],
                AutoCreate=extra["auto_create"],
                ClusterIdentifier=extra["cluster_identifier"],
            )
            return str(minted["DbUser"])
        return "failed"


SERVERLESS = ("serverless", "born", "remote-roles")
CONN_IDS = tuple(
    conn_id
    for kind in ("clusters", "workgroups")
    for each in WAREHOUSES[kind]
    for conn_id in each["tags"]["airflow:conn-id"].split()
)


def documents(identity: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The documents of an identity, each with what it is called."""
    name = identity["identity"].rpartition("/")[2]
    for policy in identity["policies"]:
        yield f"{name}, {policy['name']}", policy["document"]
    if "trust_policy" in identity:
        yield f"{name}, trust policy", identity["trust_policy"]


def without_statements(printed: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The policies without one statement, for each statement."""
    for number, identity in enumerate(printed):
        for index, (name, document) in enumerate(documents(identity)):
            for at, statement in enumerate(document["Statement"]):
                changed = copy.deepcopy(printed)
                del list(documents(changed[number]))[index][1]["Statement"][at]
                yield f"{name}, {statement['Sid']}", changed


def narrowed(printed: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The policies without one action, resource or value of a condition of a statement that has several, for each such one."""
    for number, identity in enumerate(printed):
        for index, (name, document) in enumerate(documents(identity)):
            for at, statement in enumerate(document["Statement"]):
                for path in _lists(statement):
                    for n, value in enumerate(_at(statement, path)):
                        changed = copy.deepcopy(printed)
                        del _at(list(documents(changed[number]))[index][1]["Statement"][at], path)[n]
                        yield f"{name}, {statement['Sid']}, {path[-1]}: {value}", changed


def _lists(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, list):
        yield path
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _lists(each, (*path, key))


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value
