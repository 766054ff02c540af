"""Two runs into one place do not harm each other, and a killed one leaves nothing behind: real processes, real kills."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from examples import sample

from ratesim.notebook import staging_directory
from ratesim.pages.recommendation.build import READY
from ratesim.recommendation.investigate.study import FILES

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0

# Writes a whole set of files, of one number, as a report does.
WRITER = """
import os, sys, time
from pathlib import Path
from ratesim.notebook import staging_directory

out, number, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
print("begun", flush=True)
with staging_directory(out) as work:
    print("in", flush=True)
    assert list(work.iterdir()) == []
    for name in ("a", "b", "c"):
        (work / name).write_text(number * 1000)
        time.sleep(seconds)
    out.mkdir(exist_ok=True)
    for name in ("a", "b", "c"):
        (work / name).replace(out / name)
    assert len({(out / name).read_text() for name in ("a", "b", "c")}) == 1
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors


def test_what_a_killed_process_left_is_removed_and_its_lock_is_free(tmp_path):
    killed = start(WRITER, tmp_path / "out", 1, 60)
    assert [killed.stdout.readline() for _ in range(2)] == ["begun\n", "in\n"]
    killed.kill()
    killed.communicate()
    assert (tmp_path / ".out.staging").is_dir()
    with staging_directory(tmp_path / "out") as work:
        assert list(work.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_a_living_process_is_waited_for_and_its_directory_stays(tmp_path):
    with staging_directory(tmp_path / "out") as work:
        (work / "mine").write_text("mine")
        second = start(WRITER, tmp_path / "out", 2, 0)
        assert second.stdout.readline() == "begun\n"
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(0.5)
        assert (work / "mine").read_text() == "mine"
    ended(second)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_who_must_wait_is_told(tmp_path):
    first = start(WRITER, tmp_path / "out", 1, 0.3)
    assert [first.stdout.readline() for _ in range(2)] == ["begun\n", "in\n"]
    told = []
    with staging_directory(tmp_path / "out", waiting=lambda: told.append(True)):
        assert told == [True]
    ended(first)


def test_another_directory_or_another_name_does_not_wait(tmp_path):
    with (
        staging_directory(tmp_path / "out") as one,
        staging_directory(tmp_path / "out-2") as two,
        staging_directory(tmp_path / "out", "page") as three,
    ):
        assert len({one, two, three}) == 3


@pytest.mark.parametrize("seed", sample(range(12), range(1)))
def test_writers_that_are_killed_at_any_moment_never_mix_their_files(tmp_path, seed):
    draw = random.Random(seed)
    numbers = itertools.count(1)
    running = [start(WRITER, tmp_path / "out", next(numbers), 0.02) for _ in range(3)]
    for _ in range(4):
        time.sleep(draw.uniform(0.0, 0.5))
        one = running.pop(draw.randrange(len(running)))
        one.send_signal(draw.choice([signal.SIGKILL, signal.SIGTERM]))
        one.communicate(timeout=PATIENCE)
        running.append(start(WRITER, tmp_path / "out", next(numbers), 0.02))
    for one in running:
        ended(one)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == ["a", "b", "c"]


# -- whole reports ----------------------------------------------------------------------------------------------------

LINE = '10.0.0.{} - - [17/May/2015:10:{:02d}:{:02d} +0000] "GET /a HTTP/1.1" 200 1 "-" "x"\n'
SCENARIO = """
replications = 1
[workload]
log = "access.log"
[limit]
rate = "20/minute"
[deployment]
nodes = 2
"""
CANDIDATE = '[[candidates]]\nname = "{}"\nstorage = "{}"\n'


def question(folder: Path, *storages: str, requests: int = 200) -> Path:
    (folder / "access.log").write_text("".join(LINE.format(i % 3, *divmod(i // 6, 60)) for i in range(requests)))
    (folder / "s.toml").write_text(SCENARIO + "".join(CANDIDATE.format(each.partition(":")[0], each) for each in storages))
    return folder / "s.toml"


def report(folder: Path, *more: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "ratesim", "report", "--scenario", "s.toml", "--out", "out", "--processes", "1", *more]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def descendant(process: subprocess.Popen[str], program: str) -> int:
    """Wait for a program, or one with such an argument, that the process, or one of those below it, has started."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for pid, command in below(process.pid):
            if program in command:  # a Valkey adds its address
                return pid
        assert process.poll() is None
        time.sleep(0.01)
    raise AssertionError(f"{program} was never started")


def below(root: int) -> list[tuple[int, str]]:
    parents, commands = {}, {}
    for about in Path("/proc").glob("[0-9]*"):
        try:
            fields = (about / "stat").read_text().rpartition(")")[2].split()
            commands[int(about.name)] = (about / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        parents[int(about.name)] = int(fields[1])
    found, layer = [], {root}
    while layer:
        layer = {pid for pid, parent in parents.items() if parent in layer}
        found += [(pid, commands[pid]) for pid in layer]
    return found


def whole(out: Path) -> bool:
    names = {entry.name for entry in out.iterdir()}
    return {"report.html", "recommendation.json", "scenario.toml", *FILES, *READY[:1]} <= names


@pytest.mark.servers
@pytest.mark.notebooks
def test_a_report_whose_valkey_is_killed_is_written_and_says_so(tmp_path):
    question(tmp_path, "memory://", "redis://localhost", requests=1100)  # as many as a replay has
    made = report(tmp_path)
    valkey = descendant(made, "/valkey-server")
    descendant(made, "load_process")  # which replays: before it the report would say that the server did not start
    os.kill(valkey, signal.SIGKILL)
    said, errors = made.communicate(timeout=PATIENCE)
    assert made.returncode == 1, errors
    last = errors.replace("\r", "\n").splitlines()[-1]
    assert last.startswith("ratesim: the report is written without some live measurements (redis: ")
    assert "was ended by SIGKILL" in last or "Valkey ended with status" in last
    assert said.splitlines()[-1] == "out/report.html"
    assert whole(tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "redis was not measured live: " in page
    assert said.splitlines()[0] in page  # the verdict
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["access.log", "out", "s.toml"]

    again = report(tmp_path)  # measures what was missed
    _, errors = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, errors
    assert "was not measured live" not in (tmp_path / "out" / "report.html").read_text("utf-8")


@pytest.mark.notebooks
@pytest.mark.slow
def test_two_reports_into_one_directory_are_both_made(tmp_path):
    question(tmp_path, "memory://", "redis://localhost")
    both = [report(tmp_path, "--no-live") for _ in range(2)]
    for one in both:
        _, errors = one.communicate(timeout=PATIENCE)
        assert one.returncode == 0, errors
    assert whole(tmp_path / "out")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["access.log", "out", "s.toml"]


@pytest.mark.notebooks
@pytest.mark.slow
@pytest.mark.parametrize("seed", sample(range(8), range(1)))
def test_a_report_that_is_killed_leaves_nothing_that_the_next_does_not_remove(tmp_path, seed):
    question(tmp_path, "memory://", "redis://localhost")
    out = tmp_path / "out"
    killed = report(tmp_path, "--no-live")
    time.sleep(random.Random(seed).uniform(1.0, 15.0))
    killed.kill()
    killed.communicate()
    assert not out.exists() or whole(out)
    made = report(tmp_path, "--no-live")
    _, errors = made.communicate(timeout=PATIENCE)
    assert made.returncode == 0, errors
    assert whole(out)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["access.log", "out", "s.toml"]
