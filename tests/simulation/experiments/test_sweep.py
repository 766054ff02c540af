"""Sweeps: the same table whoever makes it, and whatever happens on the way."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from terminal import Terminal

from ratesim import Scenario, run, sweep
from ratesim import progress as progress_module
from ratesim.simulation.cost_model import profile as profile_module
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.experiments import result_store as kept_module
from ratesim.simulation.experiments.executors import ClusterError, JobFailure, run_in_processes
from ratesim.simulation.experiments.job import jobs_of
from ratesim.simulation.experiments.result_store import ResultStore, ResultStoreError
from ratesim.simulation.experiments.sweep import SweepError
from ratesim.simulation.scenario.grid import parse_grid, parse_seeds, variants
from ratesim.simulation.scenario.scenario import Candidate, ScenarioError
from ratesim.simulation.source_version import source_files

REDIS = Candidate(name="redis", storage="redis://h")
MEMORY = Candidate(name="memory", storage="memory://")
EVENTUAL = Candidate(name="eventual", storage="hybrid+redis://h?sync_interval=0.1")
GRID = {"deployment.nodes": [1, 4], "limit.rate": ["5/second", "20 per 2 seconds"]}
DASK = importlib.util.find_spec("distributed") is not None
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals are of POSIX")


def scenario(**changes: dict[str, Any]) -> Scenario:
    data: dict[str, Any] = {
        "workload": {"requests_per_second": 100.0, "keys": 20, "duration": 3.0},
        "limit": {"rate": "5/second"},
        "deployment": {"nodes": 4},
        "replications": 2,
    }
    for part, values in changes.items():
        data[part] = data.get(part, {}) | values
    return Scenario.of(data)


def faulty(**fault: object) -> Scenario:
    data = scenario().model_dump(mode="json", exclude_unset=True)
    fault = {"start": 1.0, "duration": 1.0} | (fault or {"kind": "slow", "factor": 50.0})
    return Scenario.of(data | {"faults": [fault]})


@pytest.fixture(scope="module")
def profile() -> Profile:
    return Profile.load(Path(profile_module.__file__).parent / "profiles" / "shipped.json")


@pytest.fixture(scope="module")
def expected(profile: Profile) -> pd.DataFrame:
    return sweep(scenario(), [REDIS, EVENTUAL], grid=GRID, profile=profile, processes=1)


# The grid -----------------------------------------------------------------------------------------------------


def test_a_table_has_every_point_candidate_and_seed_in_that_order(expected: pd.DataFrame) -> None:
    nodes = [n for n in (1, 4) for _ in range(8)]
    rates = [rate for _ in range(2) for rate in GRID["limit.rate"] for _ in range(4)]
    assert expected["deployment.nodes"].tolist() == nodes
    assert expected["limit.rate"].tolist() == rates
    assert expected["candidate"].tolist() == ["redis", "redis", "eventual", "eventual"] * 4
    assert expected["seed"].tolist() == [1, 2] * 8
    assert not expected["partial"].any()
    assert expected.attrs["partial"] is False


def test_a_point_of_the_grid_is_run_as_if_it_had_been_written_so(expected: pd.DataFrame, profile: Profile) -> None:
    written = scenario(deployment={"nodes": 1}, limit={"rate": "20 per 2 seconds"})
    row = run(written, EVENTUAL, 2, profile=profile).row()
    at = (expected["deployment.nodes"] == 1) & (expected["limit.rate"] == "20 per 2 seconds")
    found = expected[at & (expected["candidate"] == "eventual") & (expected["seed"] == 2)]
    assert found[list(row)].to_dict("records") == [row]


def test_values_stand_in_the_table_as_the_scenario_understood_them() -> None:
    grid = {"workload.duration": ["500 ms", 2], "limit.options": [{"buckets": 4}]}
    found = variants(scenario(), grid)
    assert [each.values["workload.duration"] for each in found] == [0.5, 2.0]
    assert json.loads(found[0].values["limit.options"]) == {"buckets": 4.0}


def test_a_fault_can_be_varied_and_is_in_the_key(profile: Profile) -> None:
    found = sweep(faulty(), [REDIS], [1], grid={"faults.0.duration": [0.5, 1.0]}, profile=profile, processes=1)
    assert found["faults.0.duration"].tolist() == [0.5, 1.0]
    p90 = found["latency_p90"].tolist()
    assert run(scenario(), REDIS, 1, profile=profile).row()["latency_p90"] < p90[0] < p90[1]
    assert len({key(asked, profile=profile) for asked in (scenario(), faulty())}) == 2


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        ({"deployment.nodes": [4, 0]}, r"deployment\.nodes = 0: deployment\.nodes: .*greater than or equal to 1"),
        ({"deployment.node": [4]}, r"deployment\.node: unknown key; did you mean .*nodes\? known here: type, nodes"),
        ({"limit.rate": ["5/fortnight"]}, r"fortnight"),
        ({"deployment.network": ["moon"]}, r"moon.*known are loopback"),
        ({"seed": [1, 2]}, r"seed: .*seeds are given as such"),
        ({"deployment": [{"nodes": 3}]}, r"deployment: vary a field"),
        ({"deployment.nodes": []}, r"deployment\.nodes: .*at least one"),
        ({"deployment.nodes": "8"}, r"deployment\.nodes: give a list"),
        ({"limit.rate.unit": [1]}, r"limit\.rate\.unit: rate has no fields"),
        ({"faults.1.duration": [1]}, r"faults\.1\.duration: the scenario has 1 of these, counted from 0"),
        ({"faults.0.duration": [-1]}, r"faults\.0\.duration = -1: faults\.0\.duration"),
        ({"workload.log": ["a.log"]}, r"workload\.log = 'a\.log': workload: give one of"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_by_name_before_anything_runs(grid: dict[str, Any], says: str) -> None:
    with pytest.raises(ScenarioError, match=says):
        sweep(faulty(), [REDIS], grid=grid, processes=1)


def test_two_candidates_of_one_name_are_refused() -> None:
    with pytest.raises(ScenarioError, match="'redis' stands twice"):
        sweep(scenario(), [REDIS, REDIS], processes=1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"seeds": 3}, r"seeds 3: give a list of them, such as \[1, 2, 3\]"),
        ({"seeds": "12"}, "seeds '12': give a list"),
        ({"seeds": []}, "seeds: the list is empty"),
        ({"seeds": [1, 1]}, r"seeds \[1, 1\]: one stands twice"),
        ({"seeds": [1.5]}, r"seed 1\.5: must be a whole number, 0 or more"),
        ({"seeds": [-1]}, "seed -1: must be a whole number"),
        ({"grid": ["deployment.nodes"]}, r"grid \['deployment.nodes'\]: give values by field"),
        ({"processes": 0}, "processes 0: must be a whole number, 1 or more"),
        ({"processes": "2"}, "processes '2': must be a whole number, 1 or more"),
    ],
)
def test_a_value_of_the_wrong_type_is_told_in_one_line_before_any_run(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises((ScenarioError, ClusterError), match=f"^{said}"):
        sweep(scenario(), [MEMORY], **{"processes": 1, **wrong})


def test_a_seed_may_be_of_numpy_and_a_directory_a_text(tmp_path: Path) -> None:
    results = sweep(scenario(), [MEMORY], np.arange(1, 3), processes=1, out=str(tmp_path / "rows"))  # type: ignore[arg-type]
    assert results["seed"].tolist() == [1, 2]
    assert (tmp_path / "rows" / "results.parquet").exists()
    with pytest.raises(ScenarioError, match="seed '1': must be a whole number, 0 or more"):
        run(scenario(), MEMORY, "1")  # type: ignore[arg-type]


def test_a_grid_and_seeds_are_read_from_a_command_line() -> None:
    assert parse_grid(["deployment.nodes=1,8", "limit.rate=10 per 5 seconds", "workload.spread=true,false"]) == {
        "deployment.nodes": [1, 8],
        "limit.rate": ["10 per 5 seconds"],
        "workload.spread": [True, False],
    }
    assert parse_seeds("3-5,9") == (3, 4, 5, 9)
    for wrong in (["deployment.nodes"], ["=3"], ["a.b=1", "a.b=2"]):
        with pytest.raises(ScenarioError, match="grid"):
            parse_grid(wrong)
    for wrong_seeds in ("", "5-3", "one", "1,,2", "4294967296"):
        with pytest.raises(ScenarioError, match="seeds"):
            parse_seeds(wrong_seeds)


# Keys ---------------------------------------------------------------------------------------------------------


def key(asked: Scenario, candidate: Candidate = REDIS, seed: int = 1, profile: Profile | None = None) -> str:
    (job,) = jobs_of(asked, [candidate], [seed], None, profile or Profile.load())
    return job.key


def test_a_key_holds_what_changes_numbers_and_nothing_else(profile: Profile, tmp_path: Path) -> None:
    own = key(scenario(), profile=profile)
    same = scenario(requirements={"p99": "2ms"}).model_copy(update={"name": "other", "replications": 9})
    assert key(same, Candidate(name="another name", storage=REDIS.storage), profile=profile) == own
    assert key(scenario().model_copy(update={"seed": 2}), profile=profile) == own, "a recipe is drawn with the job's seed"
    others = [
        key(scenario(deployment={"nodes": 5}), profile=profile),
        key(scenario(limit={"rate": "6/second"}), profile=profile),
        key(scenario(workload={"keys": 21}), profile=profile),
        key(scenario(), MEMORY, profile=profile),
        key(scenario(), Candidate(name="redis", storage=REDIS.storage, routing="sticky"), profile=profile),
        key(scenario(), seed=2, profile=profile),
        key(scenario(), profile=msgspec.structs.replace(profile, round_trip=0.003)),
        key(scenario(deployment={"network": "same_zone"}), profile=profile),
        *(key(faulty(kind="crash", **kept), profile=profile) for kept in ({}, {"keeps_memory": False})),
    ]
    log = tmp_path / "access.log"
    line = '10.0.0.1 - - [17/May/2015:10:05:0{} +0000] "GET /a HTTP/1.1" 200 1 "-" "x"\n'
    for second in (1, 2):
        log.write_text(line.format(second))
        asked = Scenario.of({"workload": {"log": str(log)}, "limit": {"rate": "5/second"}})
        others.append(key(asked, profile=profile))
    log.rename(tmp_path / "moved.log")
    moved = Scenario.of({"workload": {"log": str(tmp_path / "moved.log")}, "limit": {"rate": "5/second"}})
    assert len({own, *others}) == 1 + len(others)
    assert key(moved, profile=profile) != own  # the name of the file is part of the scenario


def test_the_code_version_knows_every_module_that_a_run_imports() -> None:
    code = (
        "import sys; from ratesim import Scenario, run; from ratesim.simulation.scenario.scenario import Candidate;"
        "s = Scenario.of({'workload': {'requests_per_second': 50.0, 'duration': 1.0}, 'limit': {'rate': '5/second'}});"
        "[run(s, Candidate(name='c', storage=u)) for u in ('memory://', 'redis://h', 'hybrid+postgresql://h')];"
        "print('\\n'.join(m.__file__ for n, m in sys.modules.items()"
        " if n.partition('.')[0] in ('ratesim', 'traffic')))"
    )  # fmt: skip
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    hashed = {str(file) for _, file in source_files()}
    assert len(imported) > 30
    assert set(imported) - hashed == set()


# Whoever runs it ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_make_the_table_that_one_makes(
    expected: pd.DataFrame, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made_here(*_: object) -> None:
        raise AssertionError("this process holds results, and no trace")

    monkeypatch.setattr(Scenario, "trace", made_here)
    again = sweep(scenario(), [REDIS, EVENTUAL], grid=GRID, profile=profile, processes=2)
    pd.testing.assert_frame_equal(again, expected, check_exact=True)


@pytest.mark.slow
def test_a_dask_cluster_makes_the_same_table_and_outlives_a_worker(
    expected: pd.DataFrame, profile: Profile, tmp_path: Path
) -> None:
    if not DASK:
        with pytest.raises(ClusterError, match=r"pip install 'ratesim\[distributed\]'"):
            sweep(scenario(), [REDIS], profile=profile, scheduler="tcp://localhost:1")
        return
    from distributed import LocalCluster

    local = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with LocalCluster(**local, local_directory=str(tmp_path)) as cluster:
        killed: list[int] = []

        def kill_one(done: int, total: int, what: str) -> None:
            if done == 2 and not killed:
                killed.append(next(iter(cluster.workers.values())).pid)
                os.kill(killed[0], signal.SIGKILL)

        asked = {"grid": GRID, "profile": profile, "scheduler": cluster.scheduler_address}
        again = sweep(scenario(), [REDIS, EVENTUAL], progress=kill_one, **asked)
        assert killed
        pd.testing.assert_frame_equal(again, expected, check_exact=True)
        with pytest.raises(SweepError, match="1 of 2 runs failed: redis, seed 1: KeyError: 'redis'"):
            sweep(scenario(), [REDIS, MEMORY], [1], **(asked | {"grid": None, "profile": without_redis(profile)}))


def test_a_scheduler_that_is_not_there_is_named(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ratesim.simulation.experiments.executors.CONNECT", 0.5)
    with pytest.raises(ClusterError, match=r"tcp://127\.0\.0\.1:1" if DASK else r"ratesim\[distributed\]"):
        sweep(scenario(), [REDIS], profile=profile, scheduler="tcp://127.0.0.1:1")


def without_redis(profile: Profile) -> Profile:
    import msgspec

    backends = {name: backend for name, backend in profile.backends.items() if name != "redis"}
    return msgspec.structs.replace(profile, backends=backends)


def test_a_run_that_fails_is_named_and_costs_no_other(profile: Profile, tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="2 of 4 runs failed: redis, seed 1: KeyError: 'redis'") as caught:
        sweep(scenario(), [REDIS, MEMORY], profile=without_redis(profile), processes=1, out=tmp_path)
    assert caught.value.results["candidate"].tolist() == ["memory", "memory"]
    assert len(pd.read_parquet(tmp_path / "results.parquet")) == 2


# Death and interruption -----------------------------------------------------------------------------------------


def children() -> list[int]:
    return [int(child.pid or 0) for child in multiprocessing.active_children()]


@pytest.mark.slow
@posix
def test_a_process_that_is_killed_loses_nothing(expected: pd.DataFrame, profile: Profile) -> None:
    killed: list[int] = []

    def kill_one(done: int, total: int, what: str) -> None:
        if done == 13 and not killed:
            killed.append(children()[0])
            os.kill(killed[0], signal.SIGKILL)

    again = sweep(scenario(), [REDIS, EVENTUAL], grid=GRID, profile=profile, processes=2, progress=kill_one)
    assert killed
    pd.testing.assert_frame_equal(again, expected, check_exact=True)
    assert children() == []


@pytest.mark.slow
@posix
def test_a_job_that_kills_its_process_fails_by_name_and_its_neighbors_do_not() -> None:
    from square_jobs import square_or_die

    results = dict(run_in_processes(square_or_die, range(7), 2, lambda requests: None))
    assert {job: results[job] for job in (0, 1, 2, 5, 6)} == {0: 0, 1: 1, 2: 4, 5: 25, 6: 36}
    assert isinstance(results[3], JobFailure)
    assert "its process died" in results[3].reason
    assert isinstance(results[4], JobFailure)
    assert results[4].reason == "ValueError: four is not a number"


@pytest.mark.slow
def test_every_request_of_every_process_is_counted_once_and_none_is_taken_back() -> None:
    from square_jobs import STEPS, square_in_steps

    told: list[int] = []
    assert dict(run_in_processes(square_in_steps, range(4), 2, told.append)) == {0: 0, 1: 1, 2: 4, 3: 9}
    assert min(told) >= 0
    assert sum(told) == 4 * STEPS


@pytest.mark.slow
def test_a_script_without_a_main_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from ratesim import Scenario, sweep\n"
        "from ratesim.simulation.scenario.scenario import Candidate\n"
        "s = Scenario.of({'workload': {'requests_per_second': 10.0, 'duration': 1.0}, 'limit': {'rate': '5/second'}})\n"
        "sweep(s, [Candidate(name='m', storage='memory://')], [1, 2], processes=2)\n"
    )
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "ClusterError: no process could begin: a script that sweeps on several needs" in ended.stderr


SWEEPING = """
import multiprocessing, sys
from pathlib import Path
from ratesim import Scenario, sweep
from ratesim.simulation.scenario.scenario import Candidate

def tell(done, total, what):
    print(done, *[child.pid for child in multiprocessing.active_children()], flush=True)

if __name__ == "__main__":
    asked, out = Scenario.parse(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    sweep(asked, grid={"deployment.nodes": [1, 4]}, processes=2, out=out, progress=tell)
"""


def gone(pid: int) -> bool:
    """Whether the process is no more, or only waits to be buried by whoever inherited it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.slow
@posix
def test_a_sweep_that_was_killed_goes_on_to_the_same_table(tmp_path: Path) -> None:
    asked = scenario().model_copy(update={"candidates": (REDIS, EVENTUAL, MEMORY)})
    (tmp_path / "sweeping.py").write_text(SWEEPING)
    (tmp_path / "asked.toml").write_text(asked.to_toml())
    out = tmp_path / "out"
    command = [sys.executable, str(tmp_path / "sweeping.py"), str(tmp_path / "asked.toml"), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        workers: set[int] = set()
        for line in process.stdout:
            done, *pids = map(int, line.split())
            workers |= set(pids)
            if done >= 4:
                break
        process.kill()
    found = len(list((out / "parts").glob("*.parquet")))
    assert 4 <= found < 12
    assert not (out / "results.parquet").exists()
    assert len(workers) == 2
    while not all(map(gone, workers)):
        time.sleep(0.05)

    told: list[int] = []
    grid = {"deployment.nodes": [1, 4]}
    again = sweep(asked, grid=grid, processes=1, out=out, progress=lambda done, total, what: told.append(done))
    assert told[0] == found
    whole = sweep(asked, grid=grid, processes=1)
    pd.testing.assert_frame_equal(again, whole, check_exact=True)
    pd.testing.assert_frame_equal(pd.read_parquet(out / "results.parquet"), whole, check_exact=True)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_keeps_what_is_done_marked_as_partial(
    processes: int, expected: pd.DataFrame, profile: Profile, tmp_path: Path
) -> None:
    def interrupt(done: int, total: int, what: str) -> None:
        if done == 5:
            raise KeyboardInterrupt

    asked = {"grid": GRID, "profile": profile, "out": tmp_path}
    part = sweep(scenario(), [REDIS, EVENTUAL], processes=processes, progress=interrupt, **asked)
    assert len(part) == 5
    assert part["partial"].all()
    assert part.attrs["partial"] is True
    assert pd.read_parquet(tmp_path / "results.parquet")["partial"].all()
    assert children() == []
    whole = sweep(scenario(), [REDIS, EVENTUAL], processes=1, **asked)
    pd.testing.assert_frame_equal(whole, expected, check_exact=True)


@pytest.mark.slow
@posix
def test_ctrl_c_at_the_command_line_ends_with_130_and_the_same_command_goes_on(tmp_path: Path) -> None:
    asked = scenario(workload={"duration": 20.0}).model_copy(update={"candidates": (REDIS, MEMORY, EVENTUAL)})
    (tmp_path / "asked.toml").write_text(asked.to_toml())
    out = tmp_path / "results.csv"
    command = [sys.executable, "-m", "ratesim", "sweep", "--scenario", str(tmp_path / "asked.toml"), "--replications", "5"]
    command += ["--processes", "2", "--set", "deployment.nodes=2,3", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    parts = tmp_path / "results.csv.runs" / "parts"
    while process.poll() is None and len(list(parts.glob("*.parquet"))) < 3:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # a terminal's Ctrl-C goes to all processes of the group
    said, complained = process.communicate()
    assert process.returncode == 130, complained
    assert "Traceback" not in complained
    assert complained.endswith("ratesim: interrupted\n")
    assert "marked partial; the same command goes on from there" in said
    part = pd.read_csv(out)
    assert 3 <= len(part) < 30
    assert part["partial"].all()
    again = [*command, "--processes", "1"]  # of an option that is given twice the last counts
    ended = subprocess.run(again, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    whole = pd.read_csv(out)
    assert len(whole) == 30
    assert not whole["partial"].any()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["asked.toml", "results.csv"]
    shared = whole.merge(part, on=list(part.columns.drop("partial")))
    assert len(shared) == len(part)


# What is kept ---------------------------------------------------------------------------------------------------


def test_kept_rows_come_back_to_the_bit_however_often_they_are_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_module, "MANY", 4)
    rng = np.random.default_rng(1)
    rows = {f"{i:064x}": {"a": float(rng.normal()), "b": i, "c": float("inf"), "d": f"x{i}", "e": i > 5} for i in range(11)}
    kept = ResultStore(tmp_path)
    for name, row in rows.items():
        kept.add(name, row)
    assert len(list((tmp_path / "parts").glob("*"))) < 4
    again = ResultStore(tmp_path)
    assert {name: again[name] for name in rows} == rows
    assert "f" * 64 not in again


def test_two_sweeps_may_share_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_module, "MANY", 3)
    one, other = ResultStore(tmp_path), ResultStore(tmp_path)
    for i in range(12):
        (one if i % 2 else other).add(f"{i:064x}", {"a": i})
    again = ResultStore(tmp_path)
    assert [again[f"{i:064x}"] for i in range(12)] == [{"a": i} for i in range(12)]


def test_a_damaged_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    ResultStore(tmp_path).add("0" * 64, {"a": 1})
    (tmp_path / "parts" / f"{'1' * 64}.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ResultStoreError, match=r"1111\.parquet: is no whole parquet file; delete it"):
        ResultStore(tmp_path)


def test_nothing_is_left_where_nothing_could_run(profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ratesim.simulation.experiments.executors.CONNECT", 0.5)
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultStoreError, match="file: is a file; name a directory"):
        sweep(scenario(), [REDIS], profile=profile, processes=1, out=tmp_path / "file")
    with pytest.raises(ClusterError):
        sweep(scenario(), [REDIS], profile=profile, scheduler="tcp://127.0.0.1:1", out=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_longer_sweep_finds_the_rows_of_a_shorter_one(profile: Profile, tmp_path: Path) -> None:
    sweep(scenario(), [REDIS], [1, 2], profile=profile, processes=1, out=tmp_path)
    told: list[tuple[int, int]] = []
    renamed = Candidate(name="another name", storage=REDIS.storage)
    longer = sweep(
        scenario(), [renamed, MEMORY], [1, 2, 3], profile=profile, processes=1, out=tmp_path,
        progress=lambda done, total, what: told.append((done, total)),
    )  # fmt: skip
    assert told[0] == (2, 6)
    assert longer["candidate"].tolist() == ["another name"] * 3 + ["memory"] * 3
    pd.testing.assert_frame_equal(
        longer, sweep(scenario(), [renamed, MEMORY], [1, 2, 3], profile=profile, processes=1), check_exact=True
    )


# A run that is watched ------------------------------------------------------------------------------------------


def test_to_watch_a_run_changes_no_number_and_tells_requests_and_simulated_time(profile: Profile) -> None:
    told: list[tuple[int, int, str]] = []
    watched = run(scenario(), EVENTUAL, profile=profile, progress=lambda *about: told.append(about))
    unseen = run(scenario(), EVENTUAL, profile=profile)
    assert watched.row() == unseen.row()
    assert np.array_equal(watched.latency, unseen.latency)
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1][:2] == (len(unseen.allowed), len(unseen.allowed))
    assert len(told) >= 200
    assert "requests/s, " in told[-1][2]


@pytest.mark.parametrize("candidate", [REDIS, MEMORY, EVENTUAL], ids=str)
def test_an_interrupted_run_gives_the_requests_that_had_their_answer(candidate: Candidate, profile: Profile) -> None:
    def interrupt(done: int, total: int, what: str) -> None:
        if done * 2 > total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(scenario(), candidate, profile=profile, progress=interrupt)
    part = run(scenario(), candidate, profile=profile, progress=interrupt, interruptible=True)
    whole = run(scenario(), candidate, profile=profile)
    row = part.row()
    assert part.partial
    assert row["partial"]
    assert 0.4 * len(whole.allowed) < row["requests"] < 0.6 * len(whole.allowed)
    assert row["admitted"] + row["denied"] + row["failed"] == row["requests"]
    assert row["simulated_seconds"] < whole.row()["simulated_seconds"]
    assert part.trace == whole.trace.head(row["requests"]) or candidate is not REDIS
    if candidate is REDIS:  # whose answers come in the order of its requests
        assert np.array_equal(part.latency, whole.latency[: row["requests"]])
        assert row["over_admission"] == 0.0


def test_clients_that_react_are_watched_and_interrupted_too(profile: Profile) -> None:
    clients = {"users": 20, "think": 0.5}
    asked = Scenario.of(
        {"workload": {"clients": clients, "duration": 10.0}, "limit": {"rate": "5/second"}, "deployment": {"nodes": 4}}
    )
    told: list[tuple[int, int, str]] = []
    watched = run(asked, EVENTUAL, profile=profile, progress=lambda *about: told.append(about))
    assert watched.row() == run(asked, EVENTUAL, profile=profile).row()
    assert told[-1][0] == told[-1][1]

    def interrupt(done: int, total: int, what: str) -> None:
        if done * 2 > total:
            raise KeyboardInterrupt

    part = run(asked, EVENTUAL, profile=profile, progress=interrupt, interruptible=True)
    assert part.partial
    assert 0.4 * len(watched.trace) < len(part.trace) < 0.6 * len(watched.trace)


@pytest.mark.slow
@posix
def test_ctrl_c_during_a_run_at_the_command_line_prints_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "asked.toml").write_text(scenario(workload={"duration": 3000.0}).to_toml())
    command = [sys.executable, "-m", "ratesim", "run", "redis", "--scenario", str(tmp_path / "asked.toml")]
    with Terminal() as terminal:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal.device, text=True)
        terminal.hand_over()
        terminal.read_until(r"(?s)requests/s, .*requests/s, ")
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate()
        complained = terminal.rest()
    assert process.returncode == 130
    assert complained.endswith("ratesim: interrupted\r\n")
    figures = dict(line.split(maxsplit=1) for line in said.splitlines())
    assert figures["partial"] == "True"
    assert 0 < int(figures["requests"]) < 300_000


def show(progress: bool | None) -> None:
    with progress_module.progress_bar(progress) as tell:
        for done in range(1000):
            tell(done, 1000, f"{'first' if done < 500 else 'second'} stage: step {done}")
        tell(1000, 1000, "done")


def test_in_a_log_each_stage_is_one_line_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for progress, said in ((True, "first stage\nsecond stage\n"), (None, ""), (False, "")):
        show(progress)
        assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (None, True), (False, False)])
def test_at_a_terminal_a_bar_is_shown_unless_it_is_declined(
    progress: bool | None, shown: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    show(progress)
    said = capsys.readouterr().err
    assert ("1000/1000" in said) is shown
    assert said.count("step") < 100, "a terminal is not filled with every step"


def test_throughput_is_of_the_time_since_it_was_made() -> None:
    ticks = iter([10.0, 12.0])
    assert progress_module.Throughput(lambda: next(ticks)).text(5000, 90.0) == "2,500 requests/s, 90 s simulated"
