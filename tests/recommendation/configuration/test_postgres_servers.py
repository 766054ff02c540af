"""The files of a PostgreSQL with standbys, or behind a pooler, on real servers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from configuring import POSTGRES, a_scenario, pgbouncer_with, settings_of

from ratesim import Limit, servers
from ratesim.recommendation.configuration import StoreSize, files
from ratesim.recommendation.configuration.pg_hba_conf import names, pg_hba_conf
from ratesim.recommendation.configuration.pgbouncer_ini import pgbouncer_ini
from ratesim.recommendation.configuration.postgres_alerts import EXPORTED
from ratesim.recommendation.configuration.postgresql_conf import postgresql_conf
from ratesim.recommendation.configuration.standby_conf import create_standby, standby_names
from ratesim.servers import Server, postgres_server
from ratesim.storage import open_storage

SYNCHRONOUS = "postgresql://localhost/limits?synchronous_commit=remote_apply"
PAIR = StoreSize(replicas=1, standby="remote_apply")


@pytest.fixture(scope="module")
def pair() -> Iterator[Server]:
    """A primary and a standby that answers wait for, both with the settings of the report."""
    settings = settings_of(postgresql_conf(a_scenario(), SYNCHRONOUS, 400.0, size=PAIR))
    with servers.postgres(standbys=1, settings=settings) as server:
        yield server


@pytest.mark.servers
def test_a_standby_has_the_settings_and_answers_wait_for_it(pair):
    settings = settings_of(postgresql_conf(a_scenario(), SYNCHRONOUS, 400.0, size=PAIR))
    assert settings["synchronous_standby_names"] == "ANY 1 (standby1)"
    for member in pair.members:
        with psycopg.connect(member.url) as connection:
            for name, value in settings.items():
                (shown,) = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
                shown = "on" if (name, shown) == ("wal_compression", "pglz") else shown
                if member.role == "primary" or name != "synchronous_standby_names":
                    assert (name, shown) == (name, value)
    with psycopg.connect(pair.members[0].url) as connection:
        assert connection.execute("SELECT sync_state FROM pg_stat_replication").fetchall() == [("quorum",)]


@pytest.mark.servers
async def test_a_decision_that_was_answered_is_on_the_standby(pair):
    url = f"{pair.members[0].url}&synchronous_commit=remote_apply&table_name=waits"
    async with open_storage(url) as storage:
        assert (await storage.acquire("user", Limit.parse("5/minute"))).allowed
        with psycopg.connect(pair.members[1].url) as connection:
            assert connection.execute("SELECT identifier FROM waits").fetchall() == [("user",)]


def test_answers_wait_for_any_one_of_several_and_for_none_that_is_not_asked_for():
    assert standby_names(StoreSize(replicas=3, standby="on")) == "ANY 1 (standby1, standby2, standby3)"
    assert standby_names(StoreSize(replicas=2)) == ""
    assert (
        settings_of(postgresql_conf(a_scenario(), POSTGRES, size=StoreSize(replicas=2)))["synchronous_standby_names"] == ""
    )
    assert "synchronous_standby_names" not in postgresql_conf(a_scenario(), POSTGRES)
    unlogged = postgresql_conf(a_scenario(), "postgresql://h?unlogged=true", size=StoreSize(replicas=1))
    assert "no standby has their rows" in " ".join(unlogged.replace("#", "").split())


@pytest.mark.servers
def test_the_script_copies_the_primary_into_a_standby(pair, tmp_path):
    (home,) = {Path(member.url.rpartition("host=")[2]) for member in pair.members}
    script = tmp_path / "create_standby.sh"
    text = create_standby(StoreSize(replicas=2), "Use it.")
    for placed, here in (("host=primary.example", f"host={home}"), ("user=replicator", "user=postgres")):
        assert placed in text
        text = text.replace(placed, here)
    script.write_text(text)
    programs = postgres_server._postgres_programs()
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "PGDATA": str(tmp_path / "data")}
    run = subprocess.run(["sh", script, "2"], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "data" / "standby.signal").exists()
    assert "application_name=standby2" in (tmp_path / "data" / "postgresql.auto.conf").read_text()
    with psycopg.connect(pair.members[0].url, autocommit=True) as connection:
        assert connection.execute("SELECT pg_drop_replication_slot('standby2')").fetchone()
    assert subprocess.run(["sh", script], env=environment, capture_output=True, text=True).returncode != 0


@pytest.mark.servers
@pytest.mark.parametrize("storage", ["postgresql://app@h/limits", "postgresql:///a%20b?user=all", "postgresql://h/%22%0Ax"])
def test_the_server_reads_every_line_of_who_may_connect(pair, storage):
    fragment = pg_hba_conf(storage, "Use it.", PAIR)
    with psycopg.connect(pair.members[0].url) as connection:
        path = Path(connection.execute("SHOW hba_file").fetchone()[0])
        before = path.read_text()
        path.write_text(fragment.replace("hostssl", "host"))  # this build has no TLS
        try:
            query = "SELECT type, database, user_name, auth_method, error FROM pg_hba_file_rules ORDER BY rule_number"
            rules = connection.execute(query).fetchall()
        finally:
            path.write_text(before)
    database, role = names(storage)
    mine = ("host", [database], [role], "scram-sha-256", None)
    assert rules == [mine, ("host", ["replication"], ["replicator"], "scram-sha-256", None)]


def test_a_name_that_would_mean_something_else_is_not_written():
    for odd in ("%22%0Ax", "%2Fregex", "%2Bgroup", "@file", "a%22b", "a%00b".replace("%00", "%0D")):
        assert names(f"postgresql:///{odd.replace('@', '%40')}?user={odd.replace('@', '%40')}") == (
            "your_database",
            "your_role",
        )
    assert names("postgresql://h") == ("your_database", "your_role")
    assert names("hybrid+postgresql://app@h/limits?consistency=lease") == ("limits", "app")


@pytest.mark.servers
async def test_nodes_decide_through_the_pooler(pair):
    scenario = a_scenario()
    many = scenario.model_copy(update={"deployment": scenario.deployment.model_copy(update={"nodes": 100})})
    fragment = pgbouncer_ini(many, SYNCHRONOUS, "Use it.")
    assert files(many, SYNCHRONOUS, "random", title="Use it.")["pgbouncer.ini"] == fragment
    (home,) = {member.url.rpartition("host=")[2] for member in pair.members}
    with pgbouncer_with(fragment, home) as url:
        async with open_storage(f"{url}?schema=public&table_name=pooled&pool_size=3") as storage:
            limit = Limit.parse("2/minute", "token_bucket")
            assert [(await storage.acquire("user", limit, now=1e9)).allowed for _ in range(3)] == [True, True, False]


@pytest.mark.servers
@pytest.mark.parametrize("version", [16, 18])
def test_a_server_has_every_column_that_the_exporter_reads(version):
    missing = {16: "pg_stat_checkpointer", 18: "pg_stat_bgwriter"}[version]
    with servers.postgres(version=version) as server, psycopg.connect(server.url, autocommit=True) as connection:
        for view, column, _ in EXPORTED.values():
            if not view:
                continue
            query = psycopg.sql.SQL("SELECT {} FROM {} LIMIT 0").format(
                psycopg.sql.Identifier(column), psycopg.sql.Identifier(view)
            )
            if view == missing:
                with pytest.raises(psycopg.Error):
                    connection.execute(query)
            else:
                connection.execute(query)
