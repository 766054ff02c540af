"""open_storage.py: it runs, against the real servers."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

import pytest
from configuring import HYBRID, MEMORY, REDIS, a_scenario, without_variables
from prometheus_client import CollectorRegistry

import ratesim
from ratesim.recommendation.configuration.python_line import VARIABLE, python_line
from ratesim.simulation.scenario.workload import WorkloadSpec

ROOT = Path(ratesim.__file__).parent.parent


def carried_out(program: str, **variables: str) -> str:
    """Carry out a program in this process, and return what it prints."""
    out = io.StringIO()
    environment = mock.patch.dict(os.environ, {**without_variables(), **variables}, clear=True)
    with environment, mock.patch("prometheus_client.REGISTRY", CollectorRegistry()), redirect_stdout(out):
        exec(compile(program, "open_storage.py", "exec"), {"__name__": "__main__"})
    return out.getvalue()


def with_options(url: str, options: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{options}"


def test_it_opens_a_memory_and_decides():
    program = [sys.executable, "-c", python_line(a_scenario(), MEMORY, "Use it.")]
    run = subprocess.run(program, env=without_variables(), capture_output=True, text=True, cwd=ROOT)
    assert (run.stdout, run.stderr, run.returncode) == ("allowed\n", "", 0)


def test_a_limit_of_a_cost_is_asked_with_the_cost_of_the_request():
    scenario = a_scenario()
    workload = WorkloadSpec(log="llm.csv", cost="Context+Generated")
    program = python_line(scenario.model_copy(update={"workload": workload}), MEMORY)
    assert "# The limit is of Context+Generated: " in program
    assert 'acquire("user:1", LIMIT, COST)' in program
    assert carried_out(program) == "allowed\n"
    assert "COST" not in python_line(scenario, MEMORY)


@pytest.mark.parametrize("hybrid", ["", "hybrid+"])
def test_it_opens_a_redis_and_decides_until_the_limit_is_used_up(valkey_server, tmp_path, hybrid):
    storage = with_options(f"{hybrid}{valkey_server.url}", f"key_prefix={tmp_path.name}{hybrid}:")
    scenario = a_scenario(rate="1/day")
    scenario = scenario.model_copy(update={"limit": scenario.limit.model_copy(update={"burst": 1.0})})
    program = python_line(scenario, storage)
    first, second = (carried_out(program, **{VARIABLE: storage}) for _ in range(2))
    assert first == "allowed\n"
    assert second.startswith("denied, again in ")


def test_it_opens_a_postgres_and_takes_a_password_from_the_environment(postgres_server, tmp_path):
    table = "t_" + "".join(letter for letter in tmp_path.name if letter.isalnum()).lower()[-30:]
    storage = with_options(postgres_server.url, f"table_name={table}&password=hunter2")
    program = python_line(a_scenario(), storage)
    assert "hunter2" not in program
    assert carried_out(program, **{VARIABLE: storage}) == "allowed\n"


def test_without_the_variable_it_names_it():
    with pytest.raises(KeyError, match=VARIABLE):
        carried_out(python_line(a_scenario(), "redis://user:hunter2@localhost"))


def test_a_url_without_a_password_stands_in_it():
    tree = ast.parse(python_line(a_scenario(), REDIS))
    (url,) = [node.value.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "URL"]
    assert url == REDIS


def test_buckets_begin_where_the_alerts_compare():
    assert "thresholds=(0.002, 0.30000000000000004))" in python_line(a_scenario(), HYBRID)
    assert "thresholds" not in python_line(a_scenario(p99=None), REDIS)
