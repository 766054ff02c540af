"""Processes that use a storage and are killed, fork, or run two event loops, held against the table of guarantees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from guarantees import Cell, cells
from outage import Measured
from process_script import CALLERS
from stores import PATIENCE, STORES, OnDemand
from subjects import KEYS, SCARCE, TIMES, Answer, Subject, with_options

import ratesim
from ratesim.storage import open_storage

HERE = Path(__file__).parent
ENOUGH = 60  # answers after which a process is killed
FAULTS = ("process_kill", "fork", "two_loops")
LOCAL = ("memory", "disk")
SINCE = TIMES["sync_interval"] + TIMES["max_wait"]  # seconds in which admitted cost certainly leaves a node


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    place = tmp_path_factory.mktemp("disk")
    with ExitStack() as stack:

        def url(name: str) -> str:
            return stack.enter_context(STORES[name]()).url

        yield OnDemand(url, memory="memory://", disk=f"memory://?persist_to_disk={place}/{{tag}}")


def every_cell(fault: str) -> list[Cell]:
    stores = ("disk",) if fault == "full" else ("memory", "disk", *STORES)
    return [cell for store in stores for cell in cells(fault, store)]


def run(mode: str, url: str, tag: str, enough: int | None) -> list[Answer]:
    """Run the script, to its end or until it is killed after so many answers, and return the answers."""
    path = os.pathsep.join([str(HERE), str(Path(ratesim.__file__).parents[1])])
    command = [sys.executable, str(HERE / "process_script.py"), mode, url, tag]
    environment = os.environ | {"PYTHONPATH": path}
    answers, nodes = [], {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            for line in process.stdout:
                pid, at, key, allowed, error = json.loads(line)
                answers.append(Answer(at, at, nodes.setdefault(pid, len(nodes)), key, allowed, error))
                if len(answers) == enough:
                    process.kill()
            errors = process.stderr.read()
            assert process.wait(PATIENCE) == (0 if enough is None else -9), errors
        finally:
            process.kill()
    return answers


async def measure(cell: Cell, url: str) -> Measured:
    tag = uuid.uuid4().hex[:8]
    url = url.format(tag=tag) if cell.store == "disk" else url
    full = url if cell.store in LOCAL else cell.policy.url(url, command_timeout=PATIENCE)  # no fault of the server
    answers = run(cell.fault, full, tag, ENOUGH if cell.fault == "process_kill" else None)
    processes = 1 + max(each.node for each in answers)
    subject = Subject(cell.policy, [None] * processes, tag, answers)  # type: ignore[list-item]
    subject.tag = tag
    counted = {}
    async with open_storage(url if cell.store in LOCAL else with_options(url, command_timeout=10)) as storage:
        for key, limit in KEYS.items():
            counted[key] = limit.rate - (await storage.peek(f"{tag}-{key}", limit, 0.0)).remaining
        if cell.fault == "process_kill":  # the next process uses up what is left
            left = [await storage.acquire(f"{tag}-scarce", SCARCE) for _ in range(2 * int(SCARCE.rate))]
            last = max(each.end for each in answers)
            answers += [Answer(last, last, 0, "later", decision.allowed) for decision in left]
    last = max(each.end for each in answers)
    letters = {
        "R": SCARCE.rate,
        "N": processes,
        "T": CALLERS,
        "K": subject.admitted("plenty"),
        "Q": max(subject.admitted(key, last - SINCE) for key in KEYS),
        "A": subject.unseen("scarce", SINCE + TIMES["l1_ttl"]),
        "S": SCARCE.rate,
    }
    lost = subject.admitted("plenty") - counted["plenty"]
    over = subject.admitted("scarce") + subject.admitted("later") - SCARCE.rate
    errors = Counter(each.error for each in answers if each.error)
    return Measured(cell.policy, errors, max(0, over), max(0, lost), max(0, -lost), 0.0, 0.0, 0.0, letters | TIMES)


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "some"),
    [
        ("full", True),
        *((fault, True) for fault in FAULTS),
        *(pytest.param(fault, False, marks=pytest.mark.nightly) for fault in FAULTS),
    ],
)
async def test_processes_keep_to_the_table(urls: dict[str, str], fault: str, some: bool) -> None:
    chosen = [cell for cell in every_cell(fault) if is_of_sample(cell) == some]
    found = [await measure(cell, urls[cell.store]) for cell in chosen]
    deviations = [each for cell, one in zip(chosen, found, strict=True) for each in cell.deviations(one)]
    assert not deviations, "\n".join(deviations)


def is_of_sample(cell: Cell) -> bool:
    """Whether a cell is tried always, not only by night."""
    return cell.store in LOCAL or (cell.store == "redis" and cell.policy.consistency in ("", "eventual"))
