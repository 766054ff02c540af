"""Names on the command line: `ratesim run NAME`, the list of them, and the lines of a pipeline's log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from calling import command, refused

RECIPE = """
replications = 2
[workload]
requests_per_second = 40
duration = "5s"
keys = 10
[limit]
rate = "9/second"
[deployment]
nodes = 2
[[candidates]]
name = "mine"
storage = "redis://localhost?pool_size=3"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def test_a_wrong_name_is_one_line_with_the_close_one() -> None:
    assert refused(command("run", "reddis")) == "ratesim: candidate 'reddis': did you mean redis?"
    assert len(refused(command("run", "elasticsearch"), "`ratesim run --list`")) < 200


def test_a_wrong_name_comes_before_anything_is_made(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    refused(command("sweep", "--out", out, "--candidate", "redis", "--candidate", "postgers"), "did you mean postgres?")
    assert list(tmp_path.iterdir()) == []


def test_the_names_are_listed_those_of_the_scenario_first(recipe: Path) -> None:
    listed = command("run", "--list", "--scenario", recipe).stdout.splitlines()
    assert listed[0].split("  ")[0] == "mine"
    assert any(line.startswith("hybrid lease 1 s  ") for line in listed)
    assert len(listed) > 90
    refused(command("run", "--scenario", recipe), "which candidate?", "`ratesim run --list`")


def test_a_candidate_of_the_catalogue_or_a_url_competes_beside_those_of_the_scenario(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    words = ["--candidate", "mine", "--candidate", "memory", "--candidate", "redis://localhost", "--processes", 1]
    done = command("sweep", "--scenario", recipe, "--out", out, *words)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "making 6 of 6 runs\n"  # one line for the stage, and no bar: this is no terminal
    assert [line.split(",")[0] for line in out.read_text().splitlines()[1:]] == 2 * ["mine"] + 2 * ["memory"] + 2 * ["redis"]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are of POSIX")
def test_where_nothing_can_be_written_is_said_first(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    refused(command("sweep", "--scenario", recipe, "--out", tmp_path / "out.csv"), "can be written to")
    refused(command("run", "memory", "--scenario", recipe, "--decisions", tmp_path / "d.parquet"), "can be written to")


def test_the_import_of_ratesim_loads_none_of_the_laboratory() -> None:
    code = "import sys, ratesim; dir(ratesim); print({'numpy', 'pandas', 'simpy', 'pydantic'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
