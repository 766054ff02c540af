"""All files of a candidate: those that apply, no password, and nothing of a scenario that is more than a value."""

from __future__ import annotations

import ast
import tomllib

import pytest
import yaml
from configuring import HYBRID, LEASE, MEMORY, POSTGRES, REDIS, STORAGES, a_scenario, directives_of, settings_of
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from ratesim.errors import ConfigurationError
from ratesim.recommendation.configuration import StorageConfiguration, StoreSize, files

EVIL = [
    "a\nappendonly no\n",
    "a\r\nmaxmemory 1\r\n",
    "'; DROP TABLE limits; --",
    '"\n[storage]\nurl = "redis://elsewhere"\n',
    '"""\nimport os\n"""',
    '{{ printf "%s" "x" }} {{ $value }}',
    "a\u2028b\u0085c\x00d\x7fe\x1b[31m",
    "\\",
    "*/ $$ \\! rm",
    "🦊" * 200,
]
COMMON = {"storage.toml", "open_storage.py", "alerts.yaml"}


@pytest.mark.parametrize(
    ("storage", "more"),
    [
        (MEMORY, set()),
        (REDIS, {"redis.conf"}),
        (HYBRID, {"redis.conf"}),
        (POSTGRES, {"postgresql.conf", "pg_hba.conf", "schema.sql"}),
        (LEASE, {"postgresql.conf", "pg_hba.conf", "schema.sql"}),
    ],
)
def test_there_are_the_files_that_apply(storage, more):
    assert set(files(a_scenario(), storage, "sticky", 300.0)) == COMMON | more


def meant(name: str, text: str) -> object:
    """What a program makes of a file, without the values that a scenario brings."""
    if name == "storage.toml":
        data = tomllib.loads(text)
        return {key: sorted(value) for key, value in data.items()}
    if name == "redis.conf":
        return directives_of(text)
    if name == "postgresql.conf":
        return settings_of(text)
    if name in ("schema.sql", "pg_hba.conf", "create_standby.sh", "pgbouncer.ini"):
        return [line for line in text.split("\n") if line and not line.startswith(("--", "#", ";"))]
    if name == "open_storage.py":
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant):
                node.value = None
        return ast.dump(tree)
    rules = yaml.safe_load(text)["groups"][0]["rules"]
    return [{**rule, "labels": sorted(rule["labels"]), "annotations": sorted(rule["annotations"])} for rule in rules]


PLAIN = {storage: files(a_scenario(), storage, "sticky", 300.0, "Use it.") for storage in STORAGES}


def hold_the_same(scenario, storage: str, title: str) -> None:
    found = files(scenario, storage, "sticky", 300.0, title)
    for name, text in found.items():
        assert meant(name, text) == meant(name, PLAIN[storage][name]), name
        assert all(letter.isprintable() or letter == "\n" for letter in text), name
    values = [line for line in found["alerts.yaml"].split("\n") if not line.startswith("#")]
    assert not [line for line in values if "{{" in line]  # a template, which Prometheus would expand


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("evil", EVIL)
def test_a_name_and_a_title_add_nothing_to_any_file(storage, evil):
    hold_the_same(a_scenario(name=evil), storage, evil)


@pytest.mark.parametrize("evil", EVIL)
def test_a_title_adds_nothing_to_the_files_of_many_nodes_and_a_standby(evil):
    scenario, size = a_scenario(), StoreSize(replicas=1, standby="on")
    many = scenario.model_copy(update={"deployment": scenario.deployment.model_copy(update={"nodes": 900})})
    plain, found = (files(many, "postgresql://h", "random", title=title, size=size) for title in ("", evil))
    assert {"pgbouncer.ini", "create_standby.sh"} <= set(found)
    for name, text in found.items():
        assert meant(name, text) == meant(name, plain[name]), name


@settings(max_examples=examples(60))
@given(text=st.text(max_size=300), storage=st.sampled_from(STORAGES))
def test_no_text_at_all_adds_anything_to_any_file(text, storage):
    hold_the_same(a_scenario(name=text), storage, text)


@pytest.mark.parametrize("storage", [MEMORY, REDIS, POSTGRES])
def test_a_rate_with_a_line_break_stays_a_value(storage):
    found = files(a_scenario(rate="10/minute\n"), storage, "sticky", 300.0)
    for name, text in found.items():
        assert meant(name, text) == meant(name, PLAIN[storage][name]), name
    assert StorageConfiguration.parse(found["storage.toml"]).limit.rate == "10/minute\n"


@pytest.mark.parametrize(
    "storage",
    [
        "redis://h':6379/0?pool_size=7",
        "redis://\"h'/0?key_prefix=%0Amaxmemory%201%0A",
        "redis://h/0?key_prefix='%22%5C",
    ],
)
def test_a_host_and_an_option_with_line_breaks_and_quotes_stay_values(storage):
    found = files(a_scenario(), storage, "sticky", 300.0)
    assert meant("redis.conf", found["redis.conf"]) == meant("redis.conf", PLAIN[REDIS]["redis.conf"])
    assert meant("open_storage.py", found["open_storage.py"]) == meant("open_storage.py", PLAIN[REDIS]["open_storage.py"])
    assert StorageConfiguration.parse(found["storage.toml"]).storage == storage


SECRETS = [
    ("redis://user:hunter2@h:1/0", "redis://user:***@h:1/0"),
    ("redis://:hunter2@h", "redis://:***@h"),
    ("rediss://user:hunter2%40x@h/0?pool_size=7", "rediss://user:***@h/0?pool_size=7"),
    ("redis://user:at@hunter2@h/0", "redis://user:***@h/0"),
    ("hybrid+redis://u:hunter2@h?consistency=strong", "hybrid+redis://u:***@h?consistency=strong"),
    ("postgresql://u:hunter2@a,b/limits?unlogged=true", "postgresql://u:***@a,b/limits?unlogged=true"),
    ("postgresql:///limits?host=/run&user=u&password=hunter2", "postgresql:///limits?host=/run&user=u&password=***"),
    ("postgresql://h/limits?p%61ssword=hunter2&sslpassword=hunter2", "postgresql://h/limits?p%61ssword=***&sslpassword=***"),
]


@pytest.mark.parametrize(("storage", "shown"), SECRETS)
def test_no_file_holds_a_password(storage, shown):
    found = files(a_scenario(), storage, "sticky", 300.0)
    for name, text in found.items():
        assert "hunter2" not in text, name
    assert StorageConfiguration.parse(found["storage.toml"]).storage == shown
    assert "password belongs in the environment" in found["storage.toml"]
    assert "os.environ" in found["open_storage.py"]


def test_a_url_without_a_password_is_written_as_it_is():
    found = files(a_scenario(), "redis://user@h", "sticky")
    assert StorageConfiguration.parse(found["storage.toml"]).storage == "redis://user@h"
    assert "password" not in found["storage.toml"]
    assert "os.environ" not in found["open_storage.py"]


@pytest.mark.parametrize(
    "storage", ["redis://user:12/hunter2@h", "redis://user:1#hunter2@h", "redis://user:1/0?x=hunter2@h"]
)
def test_a_password_that_cannot_be_told_apart_is_refused_without_saying_it(storage):
    with pytest.raises(ConfigurationError) as caught:
        files(a_scenario(), storage, "sticky")
    assert "hunter2" not in str(caught.value)
