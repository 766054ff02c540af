"""The command line: bad input ends in one line that names the thing and the remedy, and leaves nothing behind."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys

import pandas as pd
import pytest
import redis
from calling import command, process, refused
from terminal import Terminal

NO_DASK = importlib.util.find_spec("distributed") is None
LINE = '10.0.0.{} - - [17/May/2015:10:05:{:02d} +0000] "GET /a HTTP/1.1" 200 1 "-" "x"\n'


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "access.log"
    path.write_text("".join(LINE.format(i % 3, i // 5) for i in range(100)))
    return path


def test_a_log_that_cannot_be_used_is_refused(tmp_path):
    out = tmp_path / "deep" / "out"
    empty, prose = tmp_path / "empty.log", tmp_path / "prose.log"
    empty.write_text("")
    prose.write_text("\x1b]0;evil\x07 this is no log\nnor is this\n")
    for path in (tmp_path / "missing.log", empty, tmp_path, prose):
        line = refused(command("report", "--log", path, "--limit", "9/minute", "--out", out, "--no-live"), str(path))
        assert "\x1b" not in line
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["empty.log", "prose.log"]


@pytest.mark.parametrize("limit", ["100/fortnight", "-5/minute", "0/minute", "many"])
def test_a_limit_that_cannot_be_is_refused(log, tmp_path, limit):
    refused(
        command("report", "--log", log, f"--limit={limit}", "--out", tmp_path / "out"), limit.partition("/")[0].lstrip("-")
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--p99", "fast"], "p99"),
        (["--max-over-admission", "much"], "max_over_admission"),
        (["--persistence", "eternal"], "persistence"),
        (["--routing", "psychic"], "routing"),
        (["--deployment", "spread"], "high_availability"),
        (["--deployment", "single_instance"], "nodes = 1"),
        (["--network", "moon"], "same_zone"),
        (["--rtt", "far"], "deployment.rtt"),
        (["--loss", "120%"], "deployment.loss"),
        (["--workload", "arrivals"], "FIELD=VALUE"),
        (["--workload", "keys=7"], "a log takes no keys"),
        (["--nodes", "0"], "nodes"),
        (["--nodes", "many"], "--nodes"),
        (["--algorithm", "magic"], "magic"),
        (["--wat"], "--wat"),
        (["--scenario", "quickstart"], "--scenario"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(log, tmp_path, options, said):
    refused(command("report", "--log", log, "--limit", "9/minute", "--out", tmp_path / "out", *options), said)
    assert not (tmp_path / "out").exists()


def test_a_scenario_with_an_unknown_key_or_a_wrong_type_is_refused(tmp_path):
    file = tmp_path / "mine.toml"
    good = '[workload]\nrequests_per_second = 5\n[limit]\nrate = "9/minute"\n'
    for text, said in (
        (good + "[deployment]\nnods = 3\n", "nods"),
        (good + '[deployment]\nnodes = "x"\n', "nodes"),
        ("= 3", "TOML"),
    ):
        file.write_text(text)
        refused(command("report", "--scenario", file, "--out", tmp_path / "out"), str(file), said)
    refused(command("report", "--scenario", "nosuch", "--out", tmp_path / "out"), "nosuch", "quickstart")
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.toml"]


def test_out_that_is_a_file_is_refused_and_kept(log):
    for out in (log, log / "below"):
        refused(command("report", "--log", log, "--limit", "9/minute", "--out", out), str(out), "directory")
    assert log.read_text().startswith("10.0.0.0")


def test_an_unreachable_server_is_refused(log, tmp_path):
    nowhere = {"RATESIM_REDIS_URL": "redis://:secret@127.0.0.1:1/0"}
    result = command("report", "--log", log, "--limit", "9/minute", "--out", tmp_path / "out", environment=nowhere)
    line = refused(result, "127.0.0.1:1")
    assert "secret" not in line
    assert [entry.name for entry in tmp_path.iterdir()] == ["access.log"]


def test_what_is_missing_is_asked_for(log, tmp_path):
    refused(command("report", "--out", tmp_path / "out"), "--log", "--scenario")
    refused(command("report", "--log", log, "--out", tmp_path / "out"), "--limit")
    refused(command("run", "mysql"), "mysql", "redis")
    refused(command("run", "redis://localhost?color=red"), "color")
    refused(command("run", "redis", "--decisions", tmp_path / "nowhere" / "d.parquet"), "nowhere")
    refused(command("sweep", "--out", tmp_path / "results.xls"), ".parquet")
    refused(command("run", "redis", "--log", log), "--log", "see `ratesim run --help`")


def test_help_teaches_each_command():
    told = process("--help")
    assert told.returncode == 0
    for name in ("report", "recommend", "run", "sweep", "notebook", "calibrate", "bench", "lab", "servers"):
        assert f"\n  {name} " in told.stdout
    assert "..." not in told.stdout.partition("Commands:")[2], "whole sentences"
    assert "ratesim report --log access.log --limit 100/minute" in told.stdout
    for name, said in (
        ("recommend", "high_availability"),
        ("calibrate", "redis+cluster://host,host"),
        ("run", "busiest primaries"),
    ):
        assert said in " ".join(process(name, "--help").stdout.replace("│", "").split())


def test_run_prints_figures_with_their_units_and_writes_every_decision(tmp_path):
    path = tmp_path / "decisions.parquet"
    result = command("run", "hybrid eventual 1 s", "--decisions", path)
    assert result.returncode == 0, result.stderr
    figures = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert figures["latency_p99"].endswith((" ms", " µs"))
    assert figures["node_bytes"].endswith(" kB")
    assert figures["view_age_max"].endswith((" ms", " s"))
    assert figures["errors"] == "none"
    decisions = pd.read_parquet(path)
    assert len(decisions) == int(figures["requests"])
    assert (decisions["decision"] == "admitted").sum() == int(figures["admitted"])
    assert decisions["view_age"].max() > 0.0


@pytest.mark.slow
def test_recommend_prints_the_sentence_a_table_and_the_lines_that_did_not_parse(log, tmp_path):
    log.write_text("\x1b[2J broken\n" + log.read_text())
    result = command("recommend", "--log", log, "--limit", "5/minute", "--replications", "1", "--max-over-admission", "0")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("Change the routing from round_robin to sticky, and use memory, sticky: ")
    assert "hybrid eventual" in result.stdout
    assert "1 of 101 lines did not parse" in result.stdout
    assert "\x1b" not in result.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == ["access.log"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are of POSIX")
def test_a_backend_may_be_left_out(tmp_path):
    for words in (["recommend"], ["report", "--out", tmp_path / "out", "--no-live"]):
        asked = [*words, "--workload", "requests_per_second=20", "--limit", "9/minute", "--without", "mysql"]
        refused(command(*asked), "--without 'mysql'", "memory, redis, postgres, hybrid")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_recipe_may_be_asked_for_without_a_file(tmp_path):
    recipe = ["requests_per_second=20", "arrivals=on_off", "on=2s", "off=2s", "keys=5", "duration=10s", "cost=2"]
    options = [part for each in recipe for part in ("--workload", each)]
    network = ("--rtt", "0.4ms", "--loss", "0.1%", "--without", "hybrid")
    result = command("recommend", *options, "--limit", "9/minute", *network, "--replications", 1, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    refused(command("recommend", *options, "--workload", "hold=2s", "--limit", "9/minute"), "hold belongs to", "flash_crowd")
    quiet = tmp_path / "quiet.toml"
    quiet.write_text('[workload]\nrequests_per_second = 5\nduration = "60s"\n[limit]\nrate = "9/minute"\n')
    near, far = (command("run", "redis", "--scenario", quiet, "--rtt", rtt) for rtt in ("0.1ms", "80ms"))
    lines = [next(line for line in each.stdout.splitlines() if line.startswith("latency_p50")) for each in (near, far)]
    p50 = [float(line.split()[1]) * {"ms": 1e-3, "us": 1e-6}[line.split()[2]] for line in lines]
    assert p50[1] - p50[0] == pytest.approx(0.0799, rel=0.1)


@pytest.mark.servers
def test_ctrl_c_ends_with_one_line_and_status_130(tmp_path):
    running = subprocess.Popen(
        [sys.executable, "-m", "ratesim", "servers"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout.readline().startswith("export RATESIM_REDIS_URL=")
    assert running.stdout.readline().startswith("export RATESIM_POSTGRES_URL=")
    running.send_signal(signal.SIGINT)
    _, said = running.communicate()
    assert running.returncode == 130
    assert said.endswith("ratesim: interrupted\n")
    assert "Traceback" not in said


@pytest.mark.servers
def test_servers_of_which_one_dies_end_with_one_line_and_status_70():
    running = subprocess.Popen(
        [sys.executable, "-m", "ratesim", "servers"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    url = running.stdout.readline().partition("=")[2].strip().strip("'")
    running.stdout.readline()
    with redis.Redis.from_url(url) as client:
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
    _, said = running.communicate(timeout=120)
    assert running.returncode == 70
    assert re.search(r"\nratesim: valkey [\d.]+ was ended by SIGKILL; the other has been stopped: .*\n$", said)


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('[workload]\nrequests_per_second = 10000\nduration = "4s"\n[limit]\nrate = "9/second"\n')
    return path


def test_run_prints_each_primary_of_a_cluster(recipe):
    recipe.write_text(recipe.read_text().replace("10000", "50") + "[deployment]\nshards = 12\n")
    figures = {}
    for storage in ("redis+cluster://h", "redis+sentinel://h/s", "memory://"):
        result = command("run", storage, "--scenario", recipe)
        assert result.returncode == 0, result.stderr
        figures[storage] = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    cluster, *others = figures.values()
    shards = {name: said for name, said in cluster.items() if name.startswith("shard_")}
    assert len(shards) == 10
    assert sum(int(said.split()[0].replace(",", "")) for said in shards.values()) <= int(cluster["requests"])
    assert any(f"utilization {cluster['utilization_max']}," in said for said in shards.values())
    assert not any(name.startswith("shard_") for each in others for name in each)
    named = command("run", "redis cluster, 6 primaries", "--scenario", recipe)
    assert "\nprimaries                       6\n" in named.stdout, named.stderr


def test_run_says_what_decided_and_the_fidelities_print_the_same_figures(recipe):
    recipe.write_text(recipe.read_text().replace("10000", "50"))
    said = {}
    for fidelity in ("model", "fake"):
        result = command("run", "redis", "--scenario", recipe, "--fidelity", fidelity)
        assert result.returncode == 0, result.stderr
        *said[fidelity], decided, simulated = result.stdout.splitlines()
        assert decided.split()[:2] == ["fidelity", "model" if fidelity == "model" else "fake:"]
        assert simulated.split()[0] == "engine"
    assert simulated.split()[1] == "simpy:"
    assert said["model"] == said["fake"]
    refused(command("run", "redis", "--scenario", recipe, "--fidelity", "real"), "real", "model, fake, live")
    asked = "run", "redis", "--scenario", recipe, "--engine"
    refused(command(*asked, "fast"), "fast", "auto, simpy, compiled")
    refused(command(*asked, "compiled", "--fidelity", "fake"), "compiled", "fidelity `fake`")


@pytest.mark.servers
@pytest.mark.skipif(sys.platform == "win32", reason="signals are of POSIX")
def test_ctrl_c_in_a_live_run_prints_what_there_is_and_leaves_no_server(recipe, tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    with Terminal() as terminal:
        running = subprocess.Popen(
            [sys.executable, "-m", "ratesim", "run", "redis", "--scenario", str(recipe), "--fidelity", "live"],
            env={name: value for name, value in os.environ.items() if name != "RATESIM_REDIS_URL"} | {"TMPDIR": str(place)},
            stdout=subprocess.PIPE,
            stderr=terminal.device,
            start_new_session=True,
        )
        terminal.hand_over()
        terminal.read_until(r"[1-9]\d*%\|")  # the run is on its way
        (server,) = place.iterdir()
        assert "valkey" in server.name
        os.killpg(running.pid, signal.SIGINT)  # the terminal signals the whole foreground group
        printed, _ = running.communicate()
        said = terminal.rest()
    assert running.returncode == 130
    assert b"partial                         True\nfidelity                        live: valkey" in printed
    assert said.endswith("ratesim: interrupted\r\n")
    assert "Traceback" not in said
    assert [*place.iterdir()] == []


def test_a_number_that_is_none_is_refused(tmp_path):
    refused(process("run", "memory", "--seed", "-1"), "'--seed': '-1' is no whole number from 0 to")
    asked = ("recommend", "--limit", "9/minute", "--workload", "requests_per_second=1..2")
    refused(command(*asked), "workload.requests_per_second", "valid number")


def test_an_address_that_is_none_is_refused(tmp_path):
    said = "ratesim[distributed]" if NO_DASK else "nonsense: is no address; write one such as tcp://host:8786"
    refused(command("sweep", "--out", tmp_path / "x.csv", "--scheduler", "nonsense"), said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--candidate", "mysql"], "redis, postgres durable, postgres off, hybrid"),
        (["--rounds", "0"], "0"),
        (["--budget", "soon"], "soon"),
        (["--store", "--candidate", "postgres off"], "give both as --candidate, or neither"),
        (["--store"], "run `ratesim calibrate` first"),
        (["--out", "."], "is a directory; name a file"),
    ],
)
def test_a_validation_that_cannot_be_is_refused_before_it_starts(options, said, tmp_path):
    none = {"RATESIM_PROFILE": str(tmp_path / "none.json")}
    refused(command("validate", *options, environment=none), said)


def test_validate_teaches_what_it_measures_and_what_to_do_with_it():
    told = " ".join(command("validate", "--help").stdout.split())
    for part in (
        "--store",
        "--rounds",
        "--budget",
        "--candidate",
        "cannot tell",
        "ratesim calibrate",
        "up to 60 % of capacity",
    ):
        assert part in told, part
