"""The row of a job names no client of a log, unless it is asked to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.experiments import job as job_module
from ratesim.simulation.experiments.job import Job, clear_traces, jobs_of, share_log, work
from ratesim.simulation.scenario.scenario import Candidate, Scenario

SECRET = "sk-live-4711"


@pytest.fixture
def scenario(tmp_path: Path) -> Scenario:
    path = tmp_path / "log.csv"
    path.write_text("time,who\n" + "".join(f"{1_700_000_000 + i / 50},{SECRET}\n" for i in range(200)))
    workload = {"log": str(path), "key": "who", "time": "time", "format": "csv"}
    return Scenario.of({"workload": workload, "limit": {"rate": "10/second"}, "deployment": {"nodes": 2}})


def job(scenario: Scenario, **options: bool) -> Job:
    memory = Candidate(name="memory", storage="memory://", routing="round_robin")
    (made,) = jobs_of(scenario, [memory], [1], None, Profile.load(), detail=True, **options)
    return made


def test_a_client_is_named_only_where_that_is_asked_for(scenario: Scenario) -> None:
    plain, full = job(scenario), job(scenario, show_keys=True)
    assert plain.key != full.key
    row, named = work(plain), work(full)
    assert SECRET not in json.dumps(row, default=str)
    assert (named["worst_key"], row["worst_key"]) == (SECRET, plain.label(SECRET))
    detail, whole = (json.loads(each.pop("detail")) for each in (row, named))
    assert [each["key"] for each in whole["keys"]] == [SECRET]
    assert [each["key"] for each in detail["keys"]] == [row["worst_key"]]
    assert [{**each, "key": SECRET} for each in detail["keys"]] == whole["keys"]
    clear_traces()


def test_keys_of_a_recipe_are_nobodys(scenario: Scenario) -> None:
    recipe = {"requests_per_second": 10, "keys": 2, "duration": "1s"}
    assert job(Scenario.of({"workload": recipe, "limit": {"rate": "1/second"}})).label("key1") == "key1"


def test_several_files_are_one_log_whose_hash_has_all_of_them(scenario: Scenario, tmp_path: Path) -> None:
    other = tmp_path / "more.csv"
    other.write_text("time,who\n1700000000,x\n")
    both = scenario.model_copy(
        update={"workload": scenario.workload.model_copy(update={"log": (scenario.workload.log, str(other))})}
    )
    everything = scenario.model_copy(
        update={"workload": scenario.workload.model_copy(update={"log": str(tmp_path / "*.csv")})}
    )
    hashes = {job(each).log for each in (scenario, both, everything)}
    assert len(hashes) == 2, "a pattern finds the same files"
    other.write_text("time,who\n1700000000,other\n")
    assert job(both).log not in hashes


def test_a_secret_of_this_process_goes_with_its_jobs(scenario: Scenario) -> None:
    hidden = scenario.model_copy(update={"workload": scenario.workload.model_copy(update={"anonymize": True})})
    first, again = job(hidden), job(hidden)
    assert first.scenario.workload.key_file == again.scenario.workload.key_file
    assert first.key == again.key
    assert hidden.workload.key_file is None
    assert first.label("key-0a") == "key-0a", "a hash needs no other name"


def test_a_long_log_that_was_read_is_not_read_again(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = job(scenario)
    row = work(plain)
    clear_traces()
    monkeypatch.setattr(job_module, "SHARED", 200)
    log = scenario.workload.read()
    kept = share_log(scenario, log)
    assert (kept, kept.provenance) == (log, log.provenance)
    assert share_log(scenario, log) == kept, "it is there already"
    shared = job(scenario)
    assert (shared.trace_folder is None, shared.key) == (False, plain.key)
    monkeypatch.setattr(type(scenario.workload), "read", lambda self, progress=None: pytest.fail("is read again"))
    again = work(shared)
    assert json.dumps(again, default=str) == json.dumps(row, default=str)
    clear_traces()
