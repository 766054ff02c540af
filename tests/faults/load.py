"""Load with faults: processes of many tasks on ten hot keys of a real server, through every fault of the table.

python tests/faults/load.py [--processes 4] [--tasks 64] [--faults kill,freeze] [--stores redis,postgres]

It prints a table, and ends with 1 where a count is above the table of guarantees, or anything is left.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "storage")]

from disturbances import refused_keys
from guarantees import Cell
from guarantees import cells as cells_of
from outage import HOLD, Measured, measured
from stores import PATIENCE, STORES, Store, children
from subjects import Answer, Policy, Subject
from transaction_pooler import TransactionPooler
from worker import PACE, PAIRS

FAULTS = ("kill", "freeze", "partition", "reset", "read_only", "full", "failover", "cancel", "poison")
FAULTS += ("clock_ahead", "clock_back", "pooler")
CALLERS_FAULTS = ("cancel", "poison", "clock_ahead", "clock_back", "pooler")
HYBRIDS = (Policy("eventual", "local"), Policy("lease", "fail_open"), Policy("strong", "fail_closed"))
# Without a hybrid and with one, in turn: each load takes seconds.
POLICIES = {fault: (Policy(), HYBRIDS[number % len(HYBRIDS)]) for number, fault in enumerate(FAULTS)}
WARM = 5 * PACE  # seconds of load before the fault
HEAD = (
    "store",
    "fault",
    "policy",
    "requests",
    "admitted",
    "permitted",
    "over",
    "bound",
    "lost",
    "errors",
    "longest",
    "well",
    "left",
)


@dataclass
class Outcome:
    """What came of one load."""

    cell: Cell
    requests: int = 0
    admitted: int = 0
    permitted: float = 0.0
    over: float = 0.0
    bound: str = ""
    lost: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0
    well: float = 0.0
    left: list[str] = field(default_factory=list)
    deviations: list[str] = field(default_factory=list)

    def row(self) -> list[str]:
        errors = ", ".join(f"{name.removeprefix('Storage')} {count}" for name, count in sorted(self.errors.items()))
        return [
            *(self.cell.store, self.cell.fault, str(self.cell.policy), str(self.requests), str(self.admitted)),
            *(f"{self.permitted:g}", f"{self.over:g}", self.bound, f"{self.lost:g}", errors or "none"),
            *(f"{self.longest:.2f} s", f"{self.well:.2f} s", ", ".join(self.left) or "nothing"),
        ]


class Process:
    """A worker, and the lines that are exchanged with it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, temporary: str, *arguments: object) -> Process:
        here = Path(__file__).parent
        paths = [str(here), str(here.parents[1]), *([os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else [])]
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                str(here / "worker.py"),
                *map(str, arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "TMPDIR": temporary},
                limit=2**27,
            )
        )

    def tell(self, word: str, **more: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"word": word, **more}).encode() + b"\n")

    async def hear(self, word: str, seconds: float) -> dict[str, Any]:
        assert self.process.stdout is not None
        async with asyncio.timeout(seconds):
            line = await self.process.stdout.readline()
        assert line, f"a worker ended before it said {word!r}"
        told: dict[str, Any] = json.loads(line)
        assert told["word"] == word, told
        return told


async def run(store: Store, cell: Cell, processes: int, tasks: int, seed: int) -> Outcome:
    """Load the store through one fault, and hold what came of it against the table."""
    with tempfile.TemporaryDirectory(prefix="ratesim-load-") as place:
        return await run_in(place, store, cell, processes, tasks, seed)


async def run_in(place: str, store: Store, cell: Cell, processes: int, tasks: int, seed: int) -> Outcome:
    """`run`, with a directory of its own for temporary files."""
    fault, policy, url = cell.fault, cell.policy, store.url_for(cell.fault)
    tag, connections = f"load{time.time_ns()}", store.connections()
    pids = set(children(os.getpid()))
    keys = list(refused_keys(store)) if fault == "poison" else []
    workers: list[Process] = []
    try:
        for node in range(processes):
            workers.append(await Process.start(place, node, url, tag, policy.consistency, policy.fallback, tasks, seed))
        await everyone(workers, "ready", 2 * PATIENCE)
        for worker in workers:
            worker.tell("begin")
        await asyncio.sleep(WARM)
        begin = time.monotonic()
        for worker in workers:
            worker.tell("fault", fault=fault, keys=keys)
        if fault not in CALLERS_FAULTS:
            await asyncio.to_thread(store.inject, fault)
        await asyncio.sleep(HOLD)
        await asyncio.to_thread(store.mend)
        mended = time.monotonic()
        for worker in workers:
            worker.tell("mended")
        await everyone(workers, "well", PATIENCE)
        await asyncio.sleep(WARM)
        for worker in workers:
            worker.tell("end", patience=PATIENCE)
        told = await everyone(workers, "told", 3 * PATIENCE)
        for worker in workers:
            assert await worker.process.wait() == 0
    finally:
        if store.fault:
            await asyncio.to_thread(store.mend)
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):  # it has ended, as it should have
                worker.process.kill()
            await worker.process.wait()
    outcome = await held_against(cell, store, tag, told, begin, mended)
    outcome.left += await leftovers(store, connections, pids)
    outcome.left += [f"file {name}" for name in os.listdir(place)]
    outcome.deviations += [f"{cell}: left: {each}" for each in outcome.left]
    return outcome


async def everyone(workers: Sequence[Process], word: str, seconds: float) -> list[dict[str, Any]]:
    return await asyncio.gather(*(worker.hear(word, seconds) for worker in workers))


async def held_against(
    cell: Cell, store: Store, tag: str, told: list[dict[str, Any]], begin: float, mended: float
) -> Outcome:
    """Put the answers of all workers together, and measure each pair of keys."""
    subject = Subject(cell.policy, [None] * len(told), f"{tag}{cell.policy}".replace(" ", "-"))  # type: ignore[list-item]
    for node, one in enumerate(told):
        subject.answers += [Answer(b, e, node, key, allowed, error) for b, e, key, allowed, error in one["answers"]]
        subject.well_at[node] = one["well_at"]
        subject.unknown += one["unknown"]
        subject.canceled += one["canceled"]
        subject.largest = max(subject.largest, one["largest"])
        subject.right_at = max(subject.right_at, one["right_at"])
    subject.answers.sort(key=lambda answer: answer.end)
    lag = max(one["lag"] for one in told)
    outcome = Outcome(cell, requests=len(subject.answers))
    for pair in range(PAIRS):
        found: Measured = await measured(subject, store, cell.fault, begin, mended, lag, str(pair))
        outcome.deviations += cell.deviations(found)
        outcome.admitted += subject.admitted(f"scarce{pair}")
        outcome.permitted += found.letters["R"]
        if found.over >= outcome.over:
            outcome.over, outcome.bound = found.over, f"{cell.row['over']} = {cell.value('over', found):g}"
        outcome.lost += found.lost
        outcome.errors, outcome.longest, outcome.well = found.errors, found.longest, found.well
    outcome.left += [f"{one['stuck']} tasks without an answer" for one in told if one["stuck"]]
    outcome.left += [f"{count} {name}" for one in told for name, count in one["left"].items() if count > 0]
    return outcome


async def leftovers(store: Store, connections: int, pids: set[int]) -> list[str]:
    """Wait until connections and processes of the load are gone; what is not is left."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = []
        if (more := store.connections() - connections) > 0:
            found.append(f"{more} connections")
        found += [f"process {pid}" for pid in sorted(set(children(os.getpid())) - pids)]
        if not found or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.05)


async def run_all(
    stores: Sequence[str], policies: Mapping[str, Sequence[Policy]], processes: int, tasks: int, seed: int = 16
) -> list[Outcome]:
    """Every fault of every store, one after the other."""
    outcomes = []
    for name in stores:
        for fault, chosen in policies.items():
            cells = [cell for cell in cells_of(fault, name) if cell.policy in chosen]
            if not cells:  # such as a pooler before Redis
                continue
            with STORES[name](replica=fault == "failover") as store:
                for cell in cells:
                    async with contextlib.AsyncExitStack() as stack:
                        if fault == "pooler":
                            pooler = TransactionPooler(store.url, size=16)
                            store.proxied_url = await pooler.start()
                            stack.push_async_callback(pooler.stop)
                        outcomes.append(await run(store, cell, processes, tasks, seed))
                        print("  ".join(outcomes[-1].row()), flush=True)
                    if fault == "failover":
                        break  # the replica is the primary now
            if fault == "failover":
                for cell in cells[1:]:
                    with STORES[name](replica=True) as store:
                        outcomes.append(await run(store, cell, processes, tasks, seed))
                        print("  ".join(outcomes[-1].row()), flush=True)
    return outcomes


def summary(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as a table."""
    rows = [list(HEAD), *(outcome.row() for outcome in outcomes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def main() -> None:
    """Run the load that the arguments describe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--tasks", type=int, default=64)
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--stores", default=",".join(STORES))
    given = parser.parse_args()
    policies = {fault: POLICIES[fault] for fault in given.faults.split(",")}
    outcomes = asyncio.run(run_all(given.stores.split(","), policies, given.processes, given.tasks))
    deviations = [each for outcome in outcomes for each in outcome.deviations]
    print(summary(outcomes), *deviations, sep="\n")
    raise SystemExit(1 if deviations else 0)


if __name__ == "__main__":
    main()
