"""Storage URLs."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from examples import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st
from redis.connection import parse_url

from ratesim.errors import ConfigurationError
from ratesim.server_url import (
    REDIS_SCHEMES,
    address_of,
    redis_hosts,
    redis_node_urls,
    redis_primary_url,
    redis_service,
    redis_topology,
)
from ratesim.storage import (
    HybridStorage,
    HybridStorageConfig,
    MemoryStorage,
    MemoryStorageConfig,
    PostgresStorage,
    PostgresStorageConfig,
    RedisStorage,
    RedisStorageConfig,
    StorageURL,
    open_storage,
)
from ratesim.storage.urls import localhost_url


def test_every_scalar_option_is_a_query_parameter() -> None:
    memory = StorageURL.parse("memory://?max_entries=1000&eviction_policy=LRU")
    assert (memory.backend, memory.config.max_entries) == ("memory", 1000)
    redis = StorageURL.parse("redis://host:1234/5?pool_size=3&command_timeout=0.25&key_prefix=x:")
    assert redis.config.url == "redis://host:1234/5"
    assert (redis.config.pool_size, redis.config.command_timeout, redis.config.key_prefix) == (3, 0.25, "x:")
    postgres = StorageURL.parse("postgresql://me@/db?host=/run/pg&unlogged=true&table_name=t")
    assert postgres.config.url == "postgresql://me@/db?host=/run/pg"
    assert (postgres.config.unlogged, postgres.config.table_name) == (True, "t")


def test_a_socket_needs_no_host_before_it() -> None:
    parsed = StorageURL.parse("postgresql:///db?host=/run/pg&pool_size=3")
    assert parsed.config.url == "postgresql:///db?host=/run/pg"
    assert "host=/run/pg" in repr(open_storage("postgresql:///db?host=/run/pg"))


def test_a_hybrid_takes_its_own_options_and_those_of_its_l2() -> None:
    url = "hybrid+redis://host:1/0?consistency=eventual&write=write_back&sync_interval=0.5&pool_size=2"
    parsed = StorageURL.parse(url)
    assert parsed.hybrid is not None
    assert (parsed.hybrid.sync_interval, parsed.config.pool_size) == (0.5, 2)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("memory://?max_entry=5", "'max_entry'.*known: cleanup_interval, eviction_policy.*max_entries"),
        ("redis://h/0?sync_interval=1", "sync_interval.*known"),
        ("memory://?max_entries=many", "max_entries 'many'.*whole number"),
        ("memory://?max_entries=0", "at least 1"),
        ("mongo://h", "mongo.*known are memory"),
        ("nothing", "known are memory"),
        ("hybrid+redis://h/0?consistency=weak", "consistency.*strong, eventual, session, lease"),
        ("hybrid+memory://", "shared"),
        ("redis://h:port/0", "port"),
        ("postgresql://h/db?unlogged=maybe", "unlogged"),
        ("redis://h/abc", "number of a database"),
        ("redis://h/0/1", "number of a database"),
        ("redis://h/-1", "number of a database"),
        ("redis://h/０", "number of a database"),
        ("redis://h/1?db=2", "db is not the database"),
        ("redis://h?db=x", "db must be"),
        ("redis://h:0/0", "port"),
        ("redis://h:65536/0", "port"),
        ("redis://::1/0", "IPv6"),
        ("redis://h1,h2/0", "several hosts"),
        ("redis://h/0?ssl_ca_certs=/ca.pem", "rediss"),
        ("rediss://h/0?ssl_cert_reqs=maybe", "none, optional or required"),
        ("rediss://h/0?ssl_check_hostname=maybe", "true or false"),
        ("redis://h/0?client_name=two+words", "without blanks"),
        ("redis+cluster://h?client_name=%C3%A9", "client_name must be"),
        ("rediss://h/0?ssl_certfile=", "ssl_certfile must be a path"),
        ("unix://run/redis.sock", "three slashes"),
        ("unix:///", "three slashes"),
        ("unix:///run/redis.sock?ssl_ca_certs=x", "rediss"),
        ("redis://h1,h2/0", r"redis\+cluster://"),
        ("redis+cluster://h1,,h2", "one of its hosts is empty"),
        ("redis+cluster://:7000,h2", "one of its hosts is empty"),
        ("redis+cluster://h1,h2:0", "port"),
        ("redis+cluster://h1,::1", "IPv6"),
        ("redis+cluster://h/1", "only database 0"),
        ("redis+cluster://h?db=1", "only database 0"),
        ("redis://h/1?cluster_mode=true", "only database 0"),
        ("redis+cluster://h/mymaster", "number of a database"),
        ("redis+cluster://h?cluster_mode=false", "contradicts"),
        ("unix:///run/redis.sock?cluster_mode=true", "cluster_mode needs"),
        ("redis+sentinel://h/s?cluster_mode=true", "cluster_mode needs"),
        ("redis+cluster://h?ssl_ca_certs=/ca.pem", "rediss"),
        ("redis+cluster://h?sentinel_password=x", "needs sentinels"),
        ("redis+sentinel://h", "name of the service"),
        ("redis+sentinel://h1,h2/", "name of the service"),
        ("redis+sentinel://h/a%20b", "name of the service"),
        ("redis+sentinel://h/s/x", "number of a database"),
        ("redis+sentinel://h/s/1/2", "number of a database"),
        ("redis+sentinel://h/s/1?db=2", "db is not the database"),
        ("redis+sentinel://h/s?sentinel_pasword=x", "did you mean sentinel_password"),
        ("hybrid+redis+sentinel://h", "name of the service"),
        ("redis://h/0#1", "#"),
        ("redis://h/0?pool_size=1&pool_size=2", "given twice"),
        ("redis://h/0?key_prefix=%FF", "UTF-8"),
        ("redis://h\n/0", "does not print"),
        ("redis://h/0?key_prefix=" + "x" * 10_000, "longer than"),
        ("redis://h/0?pool_sise=3", "did you mean pool_size"),
        ("postgresql://h/db?sslmod=require", "did you mean sslmode"),
        ("redis://h/0?pool_size=", "pool_size '': must be a whole number"),
        ("redis://h/0?pool_size=1_0", "pool_size '1_0'"),
        ("redis://h/0?pool_size=１０", "whole number"),
        ("redis://h/0?pool_size=1.5", "whole number"),
        ("redis://h/0?pool_size=" + "9" * 5000, "whole number"),
        ("memory://?max_entries=9999999999999999999", "whole number"),
        ("redis://h/0?command_timeout=nan", "a number"),
        ("redis://h/0?command_timeout=inf", "a number"),
        ("redis://h/0?command_timeout=1e400", "above 0"),
        ("redis://h/0?command_timeout=1_0", "a number"),
        ("redis://h/0?command_timeout=2 parsecs", "a number"),
        ("memory://?persist_to_disk=", "persist_to_disk"),
        ("memory://?persist_to_disk=%20", "persist_to_disk"),
        ("memory:///var/lib/limits", "persist_to_disk= names"),
        ("memory://?max_entries=x" + "y" * 100_000, "longer than"),
    ],
)
async def test_what_makes_no_sense_is_named_with_what_is_known(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        open_storage(url)


def test_a_password_never_stands_in_an_error_or_a_repr() -> None:
    for url in ("redis://me:secret@h:port/0", "redis://me:secret@h/0?nope=1", "postgresql://me:secret@h/db?nope=1"):
        with pytest.raises(ConfigurationError) as caught:
            StorageURL.parse(url)
        assert "secret" not in str(caught.value)
    for url in ("redis://me:secret@h/0", "postgresql://me:secret@h/db"):
        parsed = StorageURL.parse(url)
        assert "secret" in parsed.config.url
        assert "secret" not in repr(parsed) + str(parsed.config) + repr(open_storage(f"hybrid+{url}"))


async def test_a_url_opens_its_backend() -> None:
    kinds = {
        "memory://": MemoryStorage,
        "redis://127.0.0.1:1/0": RedisStorage,
        "postgresql://127.0.0.1:1/db": PostgresStorage,
        "hybrid+redis://127.0.0.1:1/0": HybridStorage,
        "hybrid+postgresql://127.0.0.1:1/db": HybridStorage,
    }
    for url, kind in kinds.items():
        assert type(open_storage(url)) is kind


def test_every_option_of_a_hybrid_can_be_given_in_its_url() -> None:
    given = {
        "consistency": "lease",
        "write": "write_behind",
        "read": "refresh_ahead",
        "sync": "state",
        "sync_interval": 0.5,
        "sync_jitter": 0.25,
        "flush_batch": 7,
        "linger": 0.125,
        "queue_size": 9,
        "queue_full": "drop",
        "l1_ttl": 30.0,
        "refresh_after": 6.0,
        "max_entries": 11,
        "memory_limit": 100_000,
        "eviction_policy": "TTL",
        "max_wait": 0.75,
        "on_store_failure": "local",
        "nodes": 5,
        "lease_ttl": 2.0,
        "clock_tolerance": 0.0625,
        "node": "n1",
        "max_clock_skew": 2.5,
    }
    assert set(given) == set(HybridStorageConfig.__struct_fields__)
    for scheme in ("hybrid+redis", "hybrid+postgresql"):
        parsed = StorageURL.parse(f"{scheme}://host/0?" + "&".join(f"{key}={value}" for key, value in given.items()))
        assert parsed.hybrid == HybridStorageConfig(**given)


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("valkey://h:1/2", "redis://h:1/2"),
        ("valkeys://h", "rediss://h"),
        ("rediss://h/0?ssl_ca_certs=/a b/ca.pem&pool_size=2", "rediss://h/0?ssl_ca_certs=/a%20b/ca.pem"),
        ("redis+unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("valkey+unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("valkey+cluster://h1,h2:7001,[::1]:7002", "redis+cluster://h1,h2:7001,[::1]:7002"),
        ("valkeys+cluster://u:p%2Fw@h1,h2/0", "rediss+cluster://u:p%2Fw@h1,h2/0"),
        ("redis://h1,h2?cluster_mode=yes", "redis+cluster://h1,h2"),
        ("valkeys://h?cluster_mode=true", "rediss+cluster://h"),
        ("valkeys+sentinel://h1,h2/s/3?sentinel_password=a+b", "rediss+sentinel://h1,h2/s/3?sentinel_password=a%20b"),
        ("hybrid+valkey+sentinel://:p@h/my-master.1?pool_size=2", "redis+sentinel://:p@h/my-master.1"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("redis://h/0?username=u&password=a+b", "redis://u:a%20b@h/0"),
        ("redis://u:p ss@h/0", "redis://u:p%20ss@h/0"),
        ("redis://u:p@ss@h/0", "redis://u:p%40ss@h/0"),
        (" redis://h/0 ", "redis://h/0"),
        ("postgres://u:p ss@h1:5432,h2:5433/db?target_session_attrs=any", None),
        ("postgresql://h/db?password=a+b", "postgresql://h/db?password=a%2Bb"),  # libpq reads a plus as itself
    ],
)
def test_a_url_is_written_as_its_driver_reads_it(url: str, driver: str | None) -> None:
    expected = driver or "postgres://u:p%20ss@h1:5432,h2:5433/db?target_session_attrs=any"
    assert StorageURL.parse(url).config.url == expected


NAMES = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True)
IPV6 = st.sampled_from(["::1", "fe80::1%eth0", "2001:db8::5"])
ADDRESSES = st.lists(st.tuples(NAMES | IPV6, st.none() | st.integers(1, 65535)), min_size=1, max_size=6)
SECRETS = st.none() | st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20)


@settings(max_examples=examples(100))
@given(
    scheme=st.sampled_from([each for each in REDIS_SCHEMES if redis_topology(f"{each}://") != "standalone"]),
    hybrid=st.booleans(),
    addresses=ADDRESSES,
    user=st.none() | NAMES,
    password=SECRETS,
    own=SECRETS,
    service=st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True),
    database=st.integers(0, 15),
)
def test_each_node_is_written_as_redis_py_reads_it(
    scheme: str,
    hybrid: bool,
    addresses: list[tuple[str, int | None]],
    user: str | None,
    password: str | None,
    own: str | None,
    service: str,
    database: int,
) -> None:
    sentinel = scheme.endswith("sentinel")
    hosts = ",".join(
        f"{f'[{host}]' if ':' in host else host}{'' if port is None else f':{port}'}" for host, port in addresses
    )
    secret = "" if password is None else ":" + quote(password, safe="")
    credentials = f"{user or ''}{secret}@" if user or secret else ""
    given_own = sentinel and own is not None
    query = f"sentinel_password={quote(own or '', safe='')}&" if given_own else ""
    path = f"/{service}/{database}" if sentinel else ""
    parsed = StorageURL.parse(f"{'hybrid+' * hybrid}{scheme}://{credentials}{hosts}{path}?{query}pool_size=3")
    url = parsed.config.url
    assert (parsed.backend, parsed.config.pool_size, parsed.hybrid is not None) == ("redis", 3, hybrid)
    assert parsed.config.cluster_mode == (not sentinel)
    assert RedisStorageConfig(url=url).url == url
    assert redis_topology(url) == ("sentinel" if sentinel else "cluster")
    expected = [(host, port or (26379 if sentinel else 6379)) for host, port in addresses]
    assert redis_hosts(url) == expected
    read = [parse_url(each) for each in redis_node_urls(url)]
    assert [(each["host"], each.get("port", 6379)) for each in read] == [(host.lower(), port) for host, port in expected]
    assert all(("connection_class" in each) == (scheme.split("+")[0] in ("rediss", "valkeys")) for each in read)
    assert {each.get("password") for each in read} == {(own if given_own else None) if sentinel else password}
    assert {each.get("username") for each in read} == {None if sentinel else user}
    if sentinel:
        primary = parse_url(redis_primary_url(url))
        assert (redis_service(url), primary.get("db", 0)) == (service, database)
        assert (primary.get("username"), primary.get("password")) == (user, password)
    local = StorageURL.parse(localhost_url(f"{'hybrid+' * hybrid}{scheme}://{credentials}{hosts}{path}?{query}pool_size=3"))
    assert redis_hosts(local.config.url) == [("localhost", 26379 if sentinel else 6379)]
    assert (redis_topology(local.config.url), redis_service(local.config.url)) == (redis_topology(url), redis_service(url))
    assert local.config.pool_size == 3


PARTS = [
    "redis",
    "valkeys",
    "hybrid+",
    "+cluster",
    "+sentinel",
    "+unix",
    "://",
    ":",
    "@",
    "/",
    ",",
    "[",
    "]",
    "::1",
    "?",
    "&",
]
PARTS += ["=", "#", "%", "%2F", "h", "h:1", "0", "service", "db=0", "cluster_mode=true", "sentinel_password=", "x", " ", "ü"]


@settings(max_examples=examples(300))
@given(st.lists(st.sampled_from(PARTS), max_size=14))
@example(["redis", "+cluster", "://", ",", "h"])
def test_any_text_is_a_url_that_stays_as_it_is_or_is_refused(parts: list[str]) -> None:
    for text in ("".join(parts), f"redis+cluster://{''.join(parts)}", f"redis+sentinel://h/s{''.join(parts)}"):
        try:
            config = StorageURL.parse(text).config
        except ConfigurationError:
            continue
        if hasattr(config, "cluster_mode"):
            assert RedisStorageConfig(url=config.url).url == config.url
            assert address_of(config.url)
            for each in redis_node_urls(config.url):
                parse_url(each)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", "h:6379"),
        ("redis+cluster://h1:7000,h2,h3", "cluster h1:7000 and 2 more"),
        ("redis+sentinel://u:secret@[::1]/s?sentinel_password=secret", "s of sentinel [::1]:26379"),
        ("redis+sentinel://h1,h2/s/2", "s of sentinel h1:26379 and 1 more"),
    ],
)
def test_several_hosts_are_shown_shortly(url: str, address: str) -> None:
    assert repr(open_storage(url)) == f"RedisStorage({address})"


@pytest.mark.parametrize("text", ["0.25", "250ms", "0.25 s", ".25", "2.5e-1"])
def test_a_number_of_seconds_may_have_its_unit(text: str) -> None:
    assert StorageURL.parse(f"redis://h/0?command_timeout={text}").config.command_timeout == 0.25


@pytest.mark.parametrize("config", [MemoryStorageConfig, RedisStorageConfig, PostgresStorageConfig, HybridStorageConfig])
@pytest.mark.parametrize("value", [None, "x", b"x", 1j, [], True, float("nan"), 10**400, "x" * 100_000, -1, object()])
def test_an_option_of_any_kind_is_taken_or_named_with_what_is_expected(config: Any, value: object) -> None:
    for name in config.__struct_fields__:
        try:
            config(**{name: value})
        except ConfigurationError as error:
            said = str(error)
        else:
            continue
        assert name in said or name == "url"
        assert len(said) < 700


@pytest.mark.parametrize("url", [None, 5, b"redis://h", "", "   ", "://", "redis:", "hybrid+", "x" * 100_000])
def test_what_is_no_url_is_refused(url: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        StorageURL.parse(url)
    assert len(str(caught.value)) < 700
