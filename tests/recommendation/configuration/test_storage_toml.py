"""storage.toml: what was written is read back, and what is wrong in it is said in one line."""

from __future__ import annotations

import tomllib
from urllib.parse import quote

import pytest
from configuring import STORAGES, a_scenario
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from ratesim.cli.options import current_candidate
from ratesim.errors import ConfigurationError
from ratesim.recommendation.configuration import StorageConfiguration, StoreSize
from ratesim.recommendation.configuration.storage_toml import backend_of, storage_toml
from ratesim.simulation.scenario.candidates import default_candidates
from ratesim.storage import StorageURL, open_storage

ODD = [
    "memory://?persist_to_disk=/var/lib/a%20%22b%22%0Ac&thread_safe=no&fsync=never",
    "redis://localhost?key_prefix=007&min_ttl=1e3",
    "redis://localhost?key_prefix=a%0D%0A%5Bstorage%5D",
    "postgresql:///limits?host=/run/postgresql,/run/other&unlogged=true",
    "postgresql://a,b/limits?target_session_attrs=read-write&port=5432,5433",
    "postgresql://h/limits?partition=time:1d&query_timeout=2",
    "hybrid+postgresql://h/limits?partition=identifier:b%C3%A9*,a'*&consistency=lease",
    "postgresql://h/limits?partition=none",
]


@pytest.mark.parametrize("storage", [*STORAGES, *ODD, *(each.storage for each in default_candidates(a_scenario()))])
def test_what_is_written_is_read_back(storage):
    scenario = a_scenario()
    found = StorageConfiguration.parse(storage_toml(scenario, storage, "sticky", "Use it."))
    assert found == StorageConfiguration(storage, "sticky", scenario.deployment.nodes, scenario.limit)
    assert StorageURL.parse(found.storage) == StorageURL.parse(storage)


def test_options_are_values_of_their_types():
    written = tomllib.loads(storage_toml(a_scenario(), ODD[0], "random"))
    assert written["storage"]["options"] == {
        "persist_to_disk": '/var/lib/a "b"\nc',
        "thread_safe": False,
        "fsync": "never",
    }
    prefix = tomllib.loads(storage_toml(a_scenario(), ODD[1], "random"))["storage"]["options"]
    assert prefix == {"key_prefix": "007", "min_ttl": 1000.0}


@pytest.mark.parametrize("text", ["time:1d", "hash:16", "identifier:free-*,tenant-*", "none"])
def test_a_partition_strategy_is_written_as_a_url_has_it(text):
    written = storage_toml(a_scenario(), f"postgresql://h?partition={text}", "random")
    assert tomllib.loads(written)["storage"]["options"] == {"partition": text}
    elsewhere = f'[storage]\nurl = "postgresql://h"\n[storage.options]\npartition = "{text}"\n'
    found = StorageURL.parse(StorageConfiguration.parse(elsewhere).storage).config
    assert found == StorageURL.parse(f"postgresql://h?partition={text}").config


def test_a_partition_strategy_may_stand_twice_if_it_is_the_same():
    text = '[storage]\nurl = "postgresql://h?partition=time:{}"\n[storage.options]\npartition = "time:1d"\n'
    assert StorageConfiguration.parse(text.format("24h")).storage == "postgresql://h?partition=time:24h"
    with pytest.raises(ConfigurationError, match=r"storage\.options\.partition: is 'time:1d' here and 'time:2d' in the url"):
        StorageConfiguration.parse(text.format("2d"))


def test_a_url_alone_is_enough(tmp_path):
    file = tmp_path / "storage.toml"
    file.write_text('[storage]\nurl = "redis://localhost"\n')
    assert StorageConfiguration.load(file) == StorageConfiguration("redis://localhost")


def test_options_that_the_url_has_not_are_added_to_it():
    text = '[storage]\nurl = "hybrid+redis://h:1/0?read=cache_aside"\n[storage.options]\n'
    text += 'consistency = "strong"\nsync_interval = 0.5\nread = "cache_aside"\nkey_prefix = "a&b=c"\n'
    url = StorageURL.parse(StorageConfiguration.parse(text).storage)
    assert (url.hybrid.consistency, url.hybrid.sync_interval, url.config.key_prefix) == ("strong", 0.5, "a&b=c")
    assert url.config.url == "redis://h:1/0"


@pytest.mark.parametrize(("written", "same"), [("true", True), ("yes", True), ("1", True), ("no", False), ("false", False)])
def test_an_option_may_stand_twice_if_it_says_the_same(written, same):
    text = f'[storage]\nurl = "memory://?thread_safe={written}"\n[storage.options]\nthread_safe = true\n'
    if same:
        assert StorageConfiguration.parse(text).storage == f"memory://?thread_safe={written}"
    else:
        with pytest.raises(ConfigurationError, match=r"storage\.options\.thread_safe: is 'true' here and '\w+' in the url"):
            StorageConfiguration.parse(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "storage: missing"),
        ("storage = 3", "storage: must be a table"),
        ("[storage]", "storage.url: must be a storage URL in quotes"),
        ("[storage]\nurl = 3", "storage.url: must be a storage URL in quotes"),
        ('[storage]\nurl = "mongo://h"', "storage.url: storage URL with the scheme 'mongo'"),
        ('[storage]\nurl = "redis://h?speed=9"', "storage.url: unknown option 'speed'"),
        (
            '[storage]\nurl = "redis://h"\nbackend = "postgres"',
            "storage.backend: is 'postgres', and the url is that of redis",
        ),
        ('[storage]\nurl = "redis://h"\nuri = "x"', "storage.uri: unknown key; known here: backend, options, url"),
        ('[storage]\nurl = "redis://h"\noptions = 3', "storage.options: must be a table"),
        ('[storage]\nurl = "redis://h"\noptions = {pool_size = [1]}', "storage.options.pool_size: must be a text"),
        ('[storage]\nurl = "redis://h"\noptions = {pool_size = "x"}', "storage.url: pool_size 'x': must be a whole number"),
        ('[storage]\nurl = "redis://h"\n[deployment]\nnodes = 0', "deployment.nodes: must be a whole number, at least 1"),
        ('[storage]\nurl = "redis://h"\n[deployment]\nnodes = true', "deployment.nodes: must be a whole number"),
        (
            '[storage]\nurl = "redis://h"\n[deployment]\nrouting = "best"',
            "deployment.routing: is 'best'; known are round_robin",
        ),
        ('[storage]\nurl = "redis://h"\n[deployment]\nrouting = ["a"]', "deployment.routing: is ['a']"),
        ('[storage]\nurl = "redis://h"\n[limit]\nalgorithm = "gcra"', "limit.rate: "),
        ('[storage]\nurl = "redis://h"\n[limit]\nrate = "ten"', "limit"),
        ('[storage]\nurl = "redis://h"\n[limit]\nrate = "1/s"\nalgorithm = "best"', "limit"),
        ('[storage]\nurl = "redis://h"\n[limit]\nrate = "1/s"\nbrust = 3', "limit.brust: unknown key"),
        ('[storage]\nurl = "redis://h"\n[scenario]\n', "scenario: unknown key; known here: deployment, limit, storage"),
        ("[storage", "not valid TOML"),
        ('[storage]\nurl = "redis://u:pa@ss/word@h"', "storage.url: "),
    ],
)
def test_what_is_wrong_is_said_in_one_line_that_names_the_key(tmp_path, text, told):
    file = tmp_path / "storage.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        StorageConfiguration.load(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: {told}")
    assert "\n" not in message
    assert "pa@ss" not in message


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml: cannot be read: No such file"):
        StorageConfiguration.load(tmp_path / "nowhere.toml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="binary: cannot be read: it is not UTF-8 text"):
        StorageConfiguration.load(tmp_path / "binary")


async def test_what_was_read_opens():
    found = StorageConfiguration.parse(storage_toml(a_scenario(), STORAGES[0], "sticky"))
    assert backend_of(found.storage) == "memory"
    async with open_storage(found.storage) as storage:
        assert (await storage.acquire("user", found.limit.limit())).allowed


@settings(max_examples=examples(60))
@given(title=st.text(), name=st.text(), prefix=st.text(alphabet=st.characters(codec="utf-8", exclude_characters="{}")))
def test_no_text_gets_out_of_its_place(title, name, prefix):
    storage = f"redis://localhost?key_prefix={quote(prefix)}"
    written = storage_toml(a_scenario(name=name), storage, "sticky", title)
    assert set(tomllib.loads(written)) == {"storage", "deployment", "limit"}
    assert StorageConfiguration.parse(written).storage == storage


@pytest.mark.parametrize(
    ("storage", "size"),
    [
        ("redis+cluster://localhost", StoreSize(15, 1)),
        ("hybrid+redis+cluster://localhost?consistency=lease", StoreSize(3, 0)),
        ("redis://localhost?cluster_mode=true", StoreSize(4, 2)),
        ("redis+sentinel://localhost/limits", StoreSize(1, 2)),
    ],
)
def test_servers_that_the_url_does_not_tell_are_read_back_and_compete(storage, size, tmp_path):
    path = tmp_path / "storage.toml"
    path.write_text(storage_toml(a_scenario(), storage, "random", size=size))
    found = StorageConfiguration.load(path)
    assert (found.primaries, found.replicas) == (size.primaries, size.replicas)
    servers = a_scenario().servers(current_candidate(path, a_scenario()))
    assert (servers.primaries, servers.replicas) == (size.primaries, size.replicas)


def test_standbys_that_answers_wait_for_are_read_back_and_compete(tmp_path):
    path, storage = tmp_path / "storage.toml", "postgresql://localhost?synchronous_commit=remote_apply"
    path.write_text(storage_toml(a_scenario(), storage, "random", size=StoreSize(replicas=2, standby="remote_apply")))
    assert tomllib.loads(path.read_text())["deployment"]["replicas"] == 2
    found = a_scenario().servers(current_candidate(path, a_scenario()))
    assert (found.replicas, found.standby) == (2, "remote_apply")


@pytest.mark.parametrize("storage", ["memory://", "redis://localhost", "postgresql://localhost"])
def test_one_server_has_no_number_of_servers(storage):
    written = storage_toml(a_scenario(), storage, "random", size=StoreSize(1, 1))
    assert set(tomllib.loads(written)["deployment"]) == {"routing", "nodes"}
    with pytest.raises(ConfigurationError, match=r"deployment\.primaries: is of a Redis cluster or Sentinels"):
        StorageConfiguration.parse(written.replace("nodes =", "primaries = 3\nnodes ="))


@pytest.mark.parametrize(
    ("url", "line", "said"),
    [
        ("redis+cluster://h", "primaries = 0", "primaries: must be a whole number, at least 1"),
        ("redis+cluster://h", "primaries = 1001", "primaries: must be at most 1000"),
        ("redis+cluster://h", "replicas = true", "replicas: must be a whole number, at least 0"),
        ("redis+cluster://h", "replicas = 101", "replicas: must be at most 100"),
        ("redis+sentinel://h/s", "primaries = 3", "Sentinels watch one"),
    ],
)
def test_servers_that_cannot_be_are_refused(url, line, said):
    with pytest.raises(ConfigurationError, match=said):
        StorageConfiguration.parse(f'[storage]\nurl = "{url}"\n[deployment]\n{line}\n')


def test_a_url_over_standbys_names_all_of_them():
    for storage in ("postgresql://localhost", "hybrid+postgresql://localhost?consistency=lease"):
        alone, pair = (storage_toml(a_scenario(), storage, "random", size=StoreSize(replicas=count)) for count in (0, 1))
        assert "target_session_attrs=read-write" in pair
        assert "target_session_attrs" not in alone
