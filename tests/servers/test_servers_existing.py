"""Servers that are already there, and what serves where a wheel is not."""

from __future__ import annotations

import importlib.metadata
import re
import socket

import psycopg
import pytest
import redis

from ratesim import servers
from ratesim.servers import ServerError, existing, postgres, valkey, valkey_cluster, valkey_sentinel, wheels

REDIS, POSTGRES = "RATESIM_REDIS_URL", "RATESIM_POSTGRES_URL"


@pytest.fixture
def mute_port():
    """A port where connections are taken and nothing is ever answered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def closed_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield unused.getsockname()[1]


@pytest.mark.parametrize("options", ["", "?key_prefix=mine:&min_ttl=5"])
def test_a_redis_url_is_used_and_its_server_left_running(monkeypatch, options):
    with valkey() as already_there:
        monkeypatch.setenv(REDIS, already_there.url + options)
        with valkey() as server:
            assert (server.url, server.kind, server.version) == (
                already_there.url + options,
                "valkey",
                already_there.version,
            )
            assert (server.embedded, server.pids) == (False, ())
        with redis.Redis.from_url(already_there.url) as client:
            assert client.ping()


def test_a_postgres_url_is_used_and_its_server_left_running(monkeypatch):
    with postgres() as already_there:
        url = already_there.url + "&table_name=mine"
        monkeypatch.setenv(POSTGRES, url)
        with postgres() as server:
            assert (server.url, server.kind, server.version) == (url, "postgres", already_there.version)
            assert (server.embedded, server.pids) == (False, ())
        with psycopg.connect(already_there.url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("start", [valkey_cluster, valkey_sentinel])
def test_the_url_of_a_cluster_or_of_sentinels_is_used_for_one(monkeypatch, start):
    kind = start.__name__.replace("_", "-")
    with start(1, replicas=0) as already_there:
        for url in (already_there.url, f"{already_there.url}{'&' if '?' in already_there.url else '?'}key_prefix=mine:"):
            monkeypatch.setenv(REDIS, url)
            with start() as server, valkey() as any_server:
                for one in (server, any_server):
                    assert (one.url, one.kind, one.embedded) == (url, kind, False)


def test_a_cluster_is_used_though_one_of_its_named_nodes_is_not_there(monkeypatch, closed_port):
    with valkey_cluster(1, replicas=0) as already_there:
        url = already_there.url.replace("@", f"@127.0.0.1:{closed_port},").replace("redis+cluster", "redis")
        monkeypatch.setenv(REDIS, f"{url}?cluster_mode=true")
        with valkey_cluster() as cluster:
            assert (cluster.kind, cluster.embedded) == ("valkey-cluster", False)


def test_the_url_of_a_single_server_is_no_cluster_and_no_sentinel(monkeypatch):
    with valkey() as already_there:
        monkeypatch.setenv(REDIS, already_there.url)
        for start in (valkey_cluster, valkey_sentinel):
            with start(1, replicas=0) as server:
                assert server.embedded


def test_an_empty_variable_is_an_unset_one(monkeypatch):
    monkeypatch.setenv(REDIS, "")
    with valkey() as server:
        assert server.embedded


@pytest.mark.parametrize(
    ("start", "variable", "url"),
    [
        (valkey, REDIS, "redis://user:sesame@127.0.0.1:{closed}/0"),
        (valkey, REDIS, "redis://:sesame@127.0.0.1:{mute}/0"),
        (valkey, REDIS, "rediss://:sesame@127.0.0.1:{mute}/0?ssl_cert_reqs=none"),
        (valkey, REDIS, "redis+cluster://:sesame@127.0.0.1:{closed}/0"),
        (valkey, REDIS, "redis+cluster://:sesame@127.0.0.1:{closed},127.0.0.1:{mute}"),
        (valkey, REDIS, "redis+sentinel://:sesame@127.0.0.1:{closed},127.0.0.1:{mute}/svc?sentinel_password=sesame2"),
        (valkey, REDIS, "memcached://:sesame@127.0.0.1/0"),
        (valkey, REDIS, "redis://:sesame@127.0.0.1:port/0"),
        (postgres, POSTGRES, "postgresql://user:sesame@127.0.0.1:{closed}/db"),
        (postgres, POSTGRES, "postgresql://user:sesame@127.0.0.1:{mute}/db?table_name=mine"),
        (postgres, POSTGRES, "postgresql://127.0.0.1:{closed}/db?user=me&password=sesame"),
        (postgres, POSTGRES, "postgresql:/user:sesame@127.0.0.1/db"),
        (postgres, POSTGRES, "user:sesame@127.0.0.1/db"),
        (postgres, POSTGRES, "host=127.0.0.1 port={closed} password=sesame"),
        (postgres, POSTGRES, "postgresql:///db?host=/no/such/directory&password=sesame"),
    ],
)
def test_a_server_that_does_not_answer_is_one_line_without_the_password(
    monkeypatch, closed_port, mute_port, start, variable, url
):
    monkeypatch.setattr(existing, "CHECK_SECONDS", 1)
    monkeypatch.setenv(variable, url.format(closed=closed_port, mute=mute_port))
    with pytest.raises(ServerError) as caught, start():
        pass
    message = str(caught.value)
    assert message.startswith(f"{variable}: no usable server at ")
    assert message.endswith("start it, correct the variable, or unset it to use an embedded server")
    assert "***" in message
    assert "sesame" not in message
    assert "object at 0x" not in message
    assert "\n" not in message
    assert caught.value.__suppress_context__  # the driver's own error may quote the password


@pytest.mark.parametrize("arguments", [{"version": 18}, {"standbys": 1}, {"settings": {"work_mem": "5MB"}}])
def test_a_postgres_that_is_there_takes_no_version_standbys_or_settings(monkeypatch, arguments):
    monkeypatch.setenv(POSTGRES, "postgresql://nowhere.invalid")
    with pytest.raises(ServerError, match=rf"^{POSTGRES} names .* are its own: unset it"), postgres(**arguments):
        pass


def test_a_refused_password_is_said_to_be_refused(monkeypatch):
    with valkey() as already_there:
        monkeypatch.setenv(REDIS, re.sub("//.*@", "//:wrong@", already_there.url))
        with pytest.raises(ServerError, match=r"(?i)invalid username-password"), valkey():
            pass


def test_a_server_shows_its_url_without_the_password():
    server = servers.Server("redis://me:sesame@there:6379/0?x=1", "redis", "8.0", embedded=False)
    assert server.safe_url == "redis://me:***@there:6379/0?x=1"
    assert "sesame" not in repr(server)


def test_without_the_wheel_a_fakeredis_serves_and_says_so(monkeypatch):
    monkeypatch.setattr(wheels, "newest_program", lambda package, pattern: None)
    with valkey() as server:
        assert (server.kind, server.embedded, server.pids) == ("fakeredis", True, ())
        assert server.version == importlib.metadata.version("fakeredis")
        with redis.Redis.from_url(server.url) as client:
            assert client.eval("return redis.call('incrby', KEYS[1], ARGV[1])", 1, "k", 3) == 3
    with redis.Redis.from_url(server.url) as client, pytest.raises(redis.ConnectionError):
        client.ping()


@pytest.mark.parametrize(("start", "variable"), [(postgres, POSTGRES), (valkey_cluster, REDIS), (valkey_sentinel, REDIS)])
def test_without_the_wheel_the_remedy_is_named(monkeypatch, start, variable):
    monkeypatch.setattr(wheels, "newest_program", lambda package, pattern: None)
    with pytest.raises(ServerError, match=rf'pip install "ratesim\[embedded\]", .*{variable}'), start():
        pass


def test_a_wheel_that_is_not_installed_has_no_program():
    assert wheels.newest_program("no_such_wheel", "*") is None


def test_a_wheel_without_its_program_is_an_error():
    with pytest.raises(ServerError, match="pip install --force-reinstall redis"):
        wheels.newest_program("redis", "no-such-program")


def test_the_newest_of_several_programs_is_chosen(tmp_path, monkeypatch):
    for release in ("pginstall", "pginstall9", "pginstall18"):
        (tmp_path / "some_wheel" / release).mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    assert wheels.newest_program("some_wheel", "pginstall*") == tmp_path / "some_wheel" / "pginstall18"
