"""What a pipeline runs: a report that is checked, and two recommendations that are compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from calling import command, refused

pytestmark = pytest.mark.notebooks

ASKED = """
replications = 2

[workload]
requests_per_second = 300
keys = 20
duration = "5s"

[limit]
rate = "10/second"

[deployment]
nodes = 4

[requirements]
p99 = "2ms"
max_over_admission = "1%"

[[candidates]]
name = "redis"
storage = "redis://localhost"

[[candidates]]
name = "memory"
storage = "memory://"
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A report of which the configuration in force is a memory that no node shares."""
    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "scenario.toml").write_text(ASKED)
    (folder / "storage.toml").write_text('[storage]\nurl = "memory://?max_entries=5000"\n')
    result = command(
        *("report", "--scenario", folder / "scenario.toml", "--out", folder / "out", "--no-live", "--check"),
        *("--current", folder / "storage.toml", "--processes", 1),
    )
    assert result.returncode == 1, result.stderr
    assert "The configuration in force no longer meets the requirements: it misses" in result.stdout
    return folder


def test_what_was_recommended_is_met_when_it_is_in_force_and_the_runs_are_found_again(made):
    asked = ("report", "--scenario", made / "scenario.toml", "--out", made / "again", "--no-live", "--check")
    result = command(*asked, "--current", made / "out" / "storage.toml", "--processes", 1)
    assert result.returncode == 0, result.stderr
    assert "The configuration in force meets the requirements: p99" in result.stdout


def test_two_recommendations_are_compared(made):
    same = command("diff", made / "out", made / "out" / "recommendation.json")
    assert (same.returncode, same.stdout) == (0, "The choice is still redis.\nNo figure moved.\n")
    moved = json.loads((made / "out" / "recommendation.json").read_text())
    (made / "moved.json").write_text(json.dumps(moved | {"choice": None}))
    other = command("diff", made / "out", made / "moved.json")
    assert other.returncode == 1
    assert other.stdout.startswith("The choice moved: redis before, none after.")


def test_what_cannot_be_checked_or_compared_is_bad_input(made, tmp_path):
    asked = ("report", "--scenario", made / "scenario.toml", "--out", tmp_path / "out", "--no-live", "--check", "--current")
    refused(command(*asked, tmp_path / "missing.toml"), "missing.toml", "cannot be read")
    (tmp_path / "other.toml").write_text('[storage]\nurl = "redis://h"\n[limit]\nrate = "9/second"\n')
    refused(command(*asked, tmp_path / "other.toml"), "limits 9/second by sliding_window and what is asked is 10/second")
    (tmp_path / "nodes.toml").write_text('[storage]\nurl = "redis://h"\n[deployment]\nnodes = 5\n')
    refused(command(*asked, tmp_path / "nodes.toml"), "is for 5 nodes")
    refused(command("diff", made / "out", tmp_path), "recommendation.json: cannot be read")
    assert not (tmp_path / "out").exists()
