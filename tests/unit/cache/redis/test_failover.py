"""The fleet tier during a failover by Sentinel, and while slots of a cluster move from node to node."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import redis

from redshift_secrets.cache.redis.store import RedisLease
from tests.support.fakes import Clock
from tests.support.redis_servers import NOW, RedisServer, fleet_store, free_port, skip_without_cluster, until

LATER = NOW + 600
MASTERS = 3


def test_it_is_available_again_after_a_failover_and_raises_no_error_meanwhile(caplog):
    ports = [free_port()]
    with contextlib.ExitStack() as servers:
        master = RedisServer(port=ports[0])
        ports.append(free_port())
        replica = servers.enter_context(RedisServer("--replicaof", "127.0.0.1", str(ports[0]), port=ports[1]))
        until(lambda: replica.admin().info("replication")["master_link_status"] == "up")
        config = "\n".join(
            [
                f"sentinel monitor main 127.0.0.1 {ports[0]} 1",
                "sentinel down-after-milliseconds main 200",
                "sentinel failover-timeout main 2000",
                "",
            ]
        )
        sentinel_port = free_port()
        sentinel = servers.enter_context(RedisServer(port=sentinel_port, sentinel_of=config))
        until(lambda: sentinel.admin(decode_responses=True).execute_command("SENTINEL", "REPLICAS", "main"))
        clock = Clock(100.0)
        store = fleet_store(f"redis+sentinel://127.0.0.1:{sentinel_port}/main", monotonic=clock)
        store.replace("g", {"a": b"1"}, LATER)
        until(lambda: replica.admin().exists("redshift-secrets:{g}"))
        assert store.read({"g": ["a"]})["g"] == {"a": b"1"}

        master.stop()
        assert store.read({"g": ["a"]})["g"] in ({}, {"a": b"1"})
        assert store.try_lock("g") is not None, "too many refreshes are better than none"
        until(lambda: replica.admin().info("replication")["role"] == "master")

        def available_again() -> bool:
            clock.pass_(31)
            return bool(store.read({"g": ["a"]})["g"] == {"a": b"1"})

        assert until(available_again)
        store.replace("g", {"a": b"2"}, LATER)
        assert store.read({"g": ["a"]})["g"] == {"a": b"2"}
        assert replica.admin().exists("redshift-secrets:{g}")
    messages = [message for message in caplog.messages if message.startswith("Redis at ")]
    assert len(messages) >= 1
    assert " is unavailable: " in messages[0]


class Cluster:
    """Three masters that share the slots."""

    def __init__(self, servers: contextlib.ExitStack) -> None:
        self.ports: list[int] = []
        self.nodes: list[redis.Redis] = []
        for _ in range(MASTERS):
            port = free_port()
            server = RedisServer("--cluster-enabled", "yes", port=port)
            servers.callback(server.stop)
            self.ports.append(port)
            self.nodes.append(server.admin(decode_responses=True))
        for number, node in enumerate(self.nodes):
            share = range(number * 16384 // MASTERS, (number + 1) * 16384 // MASTERS)
            node.execute_command("CLUSTER ADDSLOTS", *share)
            node.execute_command("CLUSTER MEET", "127.0.0.1", self.ports[0])
        for node in self.nodes:
            until(lambda node=node: "cluster_state:ok" in str(node.execute_command("CLUSTER", "INFO")))
            until(lambda node=node: f"cluster_known_nodes:{MASTERS}" in str(node.execute_command("CLUSTER", "INFO")))
        self.ids = [node.execute_command("CLUSTER", "MYID") for node in self.nodes]
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def slot(self, key: str) -> int:
        return int(self.nodes[0].execute_command("CLUSTER", "KEYSLOT", key))

    def node_of(self, key: str) -> int:
        slot = self.slot(key)
        return next(n for n in range(MASTERS) if slot < (n + 1) * 16384 // MASTERS)

    def begin_to_move(self, slot: int, source: int, target: int) -> None:
        self.nodes[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", self.ids[source])
        self.nodes[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", self.ids[target])

    def move_keys(self, slot: int, source: int, target: int) -> None:
        for key in self.nodes[source].execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
            self.nodes[source].execute_command("MIGRATE", "127.0.0.1", self.ports[target], key, 0, 5000)

    def end_move(self, slot: int, target: int) -> None:
        for node in (self.nodes[target], *self.nodes):
            node.execute_command("CLUSTER SETSLOT", slot, "NODE", self.ids[target])


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    skip_without_cluster()
    with contextlib.ExitStack() as servers:
        yield Cluster(servers)


def test_groups_are_spread_over_three_masters_and_each_is_in_one_slot(cluster):
    store = fleet_store(cluster.url)
    groups = [f"group {number}" for number in range(30)]
    for group in groups:
        store.replace(group, {"a": group.encode(), "b": b"2"}, LATER)
        assert isinstance(store.try_lock(group), RedisLease)
    other = fleet_store(cluster.url)
    assert other.read({group: ["a"] for group in groups}) == {group: {"a": group.encode()} for group in groups}
    assert all(node.dbsize() > 0 for node in cluster.nodes)
    assert other.describe().groups == 30
    other.clear()
    assert store.describe().groups == 0


def test_a_moving_slot_loses_nothing(cluster, caplog):
    store = fleet_store(cluster.url)
    store.replace("g", {"a": b"1"}, LATER)
    key = "redshift-secrets:{g}"
    slot, source = cluster.slot(key), cluster.node_of(key)
    target = (source + 1) % MASTERS
    cluster.begin_to_move(slot, source, target)
    everything = {"another slot": {"a": b"1"}, "g": {"a": b"1"}}
    store.replace("another slot", {"a": b"1"}, LATER)
    assert store.read({"another slot": ["a"], "g": ["a"]}) == everything  # still on the old node
    cluster.move_keys(slot, source, target)
    assert store.read({"another slot": ["a"], "g": ["a"]}) == everything  # the old node redirects
    lease = store.try_lock("g")
    assert isinstance(lease, RedisLease)
    lease.release()
    cluster.end_move(slot, target)
    assert store.read({"g": ["a"]})["g"] == {"a": b"1"}
    store.replace("g", {"a": b"2"}, LATER)
    assert fleet_store(cluster.url).read({"g": ["a"]})["g"] == {"a": b"2"}
    assert cluster.nodes[target].exists(key)
    assert caplog.messages == []


def test_a_write_while_its_slot_moves_raises_no_error_and_the_next_one_is_stored(cluster):
    clock = Clock(100.0)
    store = fleet_store(cluster.url, monotonic=clock)
    store.replace("g", {"a": b"1"}, LATER)
    key = "redshift-secrets:{g}"
    slot, source = cluster.slot(key), cluster.node_of(key)
    target = (source + 1) % MASTERS
    cluster.begin_to_move(slot, source, target)
    cluster.move_keys(slot, source, target)
    store.replace("g", {"a": b"2"}, LATER)
    assert store.read({"g": ["a"]})["g"] in ({"a": b"1"}, {"a": b"2"}, {})
    cluster.end_move(slot, target)
    clock.pass_(31)
    store.replace("g", {"a": b"3"}, LATER)
    assert store.read({"g": ["a"]})["g"] == {"a": b"3"}
