"""Nothing acknowledged is lost: the journal over a disk that loses what was not synced, and under kill -9.

Run as a program it is the process that is killed: see `serve`.
"""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crashing_files import CrashingFiles, Stopped
from examples import examples
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ratesim.errors import StorageError
from ratesim.storage.journal import Count, Drop, Forget, Journal, Put, Record, SnapshotWriter

Key = tuple[str, str | None]
IDENTIFIERS = ["a", "b", "c"]
KEYS: list[Key] = [(identifier, name) for identifier in IDENTIFIERS for name in ("", "second", None)]


class Failures(RuleBasedStateMachine):
    """Appends, syncs, snapshots and openings, any of which may be stopped in the middle by a kill or a power failure.

    `certain` is, for each key, what a reader may find after a kill: what was acknowledged, and what was on its way.
    `possible` is what he may find after a power failure: that, and what there was since it was last known to be on the disk.
    """

    fsync: Any

    @initialize(seed=st.integers(0, 2**32 - 1))
    def begin(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.files = CrashingFiles(self.generator)
        self.journal = Journal(Path("disk"), self.fsync, self.files)
        self.writer: SnapshotWriter | None = None
        self.slices: list[Key] = []
        self.current: dict[Key, Put | Count | None] = dict.fromkeys(KEYS)
        self.certain = {key: {value} for key, value in self.current.items()}
        self.possible = {key: {value} for key, value in self.current.items()}
        self.number = 0
        self.open(powerless=False)

    def durable(self) -> None:
        self.possible = {key: {value} for key, value in self.current.items()}

    def open(self, powerless: bool) -> None:
        """Open until it succeeds; opening may be stopped as well, and once a disk's fsync may fail."""
        self.writer = None
        while True:
            self.journal = Journal(Path("disk"), self.fsync, self.files)
            if self.generator.random() < 0.5:
                self.files.stop_after = int(self.generator.integers(0, 12))
            try:
                recovered = self.journal.open()
                break
            except Stopped:
                powerless |= self.crash()
            except StorageError as error:
                self.disk_failed(error)
        self.files.stop_after = None
        found = {self.key(record): record for record in recovered.records}
        allowed = self.possible if powerless else self.certain
        for key in KEYS:
            assert found.get(key) in allowed[key], (key, found.get(key), allowed[key])
        assert set(found) <= set(KEYS)
        assert len(found) == recovered.entries
        self.current = {key: found.get(key) for key in KEYS}
        self.certain = {key: {value} for key, value in self.current.items()}
        self.durable()

    @staticmethod
    def key(record: Put | Count) -> Key:
        return record.identifier, record.name if isinstance(record, Put) else None

    def crash(self) -> bool:
        """Whether it was the power."""
        powerless = self.generator.random() < 0.7
        if powerless:
            self.files.fail_power()
        else:
            self.files.kill()
        return powerless

    @contextmanager
    def surviving(self) -> Iterator[None]:
        try:
            yield
        except Stopped:
            self.open(self.crash())
        except StorageError as error:
            self.disk_failed(error)
            self.writer = None
            powerless = False
            try:
                self.journal.append([])
            except Stopped:
                powerless = self.crash()
            except StorageError as refusal:
                if "has failed" not in str(refusal) and "is closed" not in str(refusal):
                    raise
                try:
                    self.journal.close()
                except Stopped:
                    powerless = self.crash()
            else:
                return
            self.open(powerless)

    def disk_failed(self, error: StorageError) -> None:
        """It must have been told to, and is repaired."""
        if "Input/output error" not in str(error) and "No space left" not in str(error):
            raise error
        self.files.room = None
        self.files.sync_fails = False

    # -- what is done -------------------------------------------------------------------------------------------------

    @rule(
        batch=st.lists(
            st.tuples(st.sampled_from(["put", "count", "drop", "forget"]), st.sampled_from(KEYS), st.integers(0, 300)),
            min_size=1,
            max_size=4,
        )
    )
    def append(self, batch: list[tuple[str, Key, int]]) -> None:
        records: list[Record] = []
        effects: list[tuple[Key, Put | Count | None]] = []
        for kind, (identifier, name), size in batch:
            self.number += 1
            if kind == "forget":
                records.append(Forget(identifier))
                effects += [(key, None) for key in KEYS if key[0] == identifier]
            elif kind == "drop":
                records.append(Drop(identifier, name))
                effects.append(((identifier, name), None))
            else:
                state = f"{self.number}:".encode().ljust(size, b"\x55")
                new = (
                    Count(identifier, self.number, 2.0) if name is None else Put(identifier, name, state, self.number + 0.5)
                )
                records.append(new)
                effects.append(((identifier, name), new))
        for key, value in effects:
            self.certain[key].add(value)
            self.possible[key].add(value)
        with self.surviving():
            self.journal.append(records)
            for key, value in effects:
                self.current[key] = value
                self.certain[key] = {value}
            if self.fsync == "always":
                self.durable()

    @rule()
    def sync(self) -> None:
        with self.surviving():
            self.journal.sync()
            if self.fsync != "never":
                self.durable()

    @precondition(lambda self: self.writer is None)
    @rule()
    def begin_snapshot(self) -> None:
        with self.surviving():
            self.writer = self.journal.begin_snapshot()
            self.slices = list(KEYS)
            self.durable()

    @precondition(lambda self: self.writer is not None)
    @rule(size=st.integers(1, 5))
    def write_a_slice(self, size: int) -> None:
        assert self.writer is not None
        keys, self.slices = self.slices[:size], self.slices[size:]
        with self.surviving():
            self.writer.write([value for key in keys if (value := self.current[key]) is not None])

    @precondition(lambda self: self.writer is not None)
    @rule()
    def commit(self) -> None:
        assert self.writer is not None
        with self.surviving():
            self.writer.write([value for key in self.slices if (value := self.current[key]) is not None])
            self.writer.commit()
            self.writer = None
            kinds = [name.split("-")[0] for name in self.files.names(Path("disk"))]
            assert kinds == ["log", "snapshot"], "what is older is gone"

    @precondition(lambda self: self.writer is not None)
    @rule()
    def abort(self) -> None:
        assert self.writer is not None
        with self.surviving():
            self.writer.abort()
            self.writer = None

    @rule()
    def close_and_open(self) -> None:
        with self.surviving():
            self.journal.close()
            if self.fsync != "never":
                self.durable()
            self.open(powerless=False)

    # -- what happens to it -------------------------------------------------------------------------------------------

    @rule(steps=st.integers(0, 12))
    def stop_soon(self, steps: int) -> None:
        self.files.stop_after = steps

    @rule()
    def stop_now(self) -> None:
        self.open(self.crash())

    @rule(room=st.integers(0, 1000))
    def fill_up(self, room: int) -> None:
        self.files.room = room

    @rule()
    def fail_the_next_fsync(self) -> None:
        self.files.sync_fails = True


def machine(policy: str) -> Any:
    kind = type(f"Failures_{policy}", (Failures,), {"fsync": policy})
    case = kind.TestCase
    case.settings = settings(
        max_examples=examples(200),
        stateful_step_count=40,
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    return case


TestAlwaysLosesNothing = machine("always")
TestIntervalLosesAtMostWhatCameAfterTheLastSync = machine("interval")
TestNeverIsStillReadable = machine("never")


# -- kill -9 ----------------------------------------------------------------------------------------------------------

USERS = 20
ACKNOWLEDGED, IN_SNAPSHOT, OPENINGS, SNAPSHOTS = range(4)  # numbers in the memory that the killed process shares


def shared(path: Path) -> memoryview:
    with open(path, "r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 64)).cast("q")


def check(records: list[Put], acknowledged: int) -> dict[str, Put]:
    """Every user's last acknowledged record is there, or the one that was being appended."""
    found = {record.identifier: record for record in records}
    for user in range(USERS):
        last = acknowledged - (acknowledged - user) % USERS
        expected = {last, acknowledged + 1} if (acknowledged + 1) % USERS == user else {last}
        number = int(found[f"user:{user}"].state) if f"user:{user}" in found else -1
        assert number in expected or (last <= 0 and number <= 0), (user, number, expected)
    return found


def write_until_killed(directory: Path, policy: Any, numbers: memoryview) -> None:
    journal = Journal(directory, policy)
    recovered = list(journal.open().records)
    live = check(recovered, numbers[ACKNOWLEDGED])  # type: ignore[arg-type]
    numbers[OPENINGS] += 1
    number = numbers[ACKNOWLEDGED]

    def append() -> None:
        nonlocal number
        number += 1
        record = Put(f"user:{number % USERS}", "", str(number).encode().zfill(300), 1.7e9)
        journal.append([record])
        numbers[ACKNOWLEDGED] = number
        live[record.identifier] = record

    parent = os.getppid()
    while os.getppid() == parent:  # nobody is left behind when a test run is broken off
        for _ in range(15):
            append()
        journal.sync()
        numbers[IN_SNAPSHOT] = 1
        writer = journal.begin_snapshot()
        for identifier in list(live):
            append()
            writer.write([live[identifier]])
        writer.commit()
        numbers[IN_SNAPSHOT] = 0
        numbers[SNAPSHOTS] += 1


def serve(directory: Path, policy: str, numbers: memoryview) -> None:
    """Fork a writer for every line "start" and kill it for every line "kill"; answer with the signal that ended it."""
    child = 0
    for line in sys.stdin:
        if line == "start\n":
            child = os.fork()
            if child == 0:
                write_until_killed(directory, policy, numbers)
        else:
            os.kill(child, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print("started" if line == "start\n" else status, flush=True)


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "kills"), [("never", 67), ("interval", 67), ("always", 66)])
def test_a_writer_killed_at_random_moments_always_comes_back_with_everything_acknowledged(
    tmp_path: Path, policy: str, kills: int
) -> None:
    generator = np.random.default_rng(5)
    memory = tmp_path / "numbers"
    memory.write_bytes(bytes(64))
    numbers = shared(memory)
    directory = tmp_path / "journal"
    in_snapshot = 0
    server = subprocess.Popen(
        [sys.executable, __file__, str(directory), policy, str(memory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        longest = 0.06  # seconds that a writer lives; more on a disk so slow that none is killed in a snapshot
        for kill in range(kills + 60):
            if kill >= kills and numbers[SNAPSHOTS] and in_snapshot:
                break
            if kill % 10 == 9 and not (numbers[SNAPSHOTS] and in_snapshot):
                longest = min(2 * longest, 2.0)
            server.stdin.write("start\n")
            server.stdin.flush()
            assert server.stdout.readline() == "started\n"
            time.sleep(generator.uniform(0, longest))
            server.stdin.write("kill\n")
            server.stdin.flush()
            assert server.stdout.readline() == f"{-signal.SIGKILL}\n", "a restart failed: see its traceback"
            in_snapshot += numbers[IN_SNAPSHOT]
    finally:
        server.stdin.close()
        server.wait(10)
    journal = Journal(directory)
    check(list(journal.open().records), numbers[ACKNOWLEDGED])  # type: ignore[arg-type]
    journal.close()
    assert numbers[OPENINGS] > kills // 2, "most writers lived long enough to write"
    assert numbers[SNAPSHOTS] > 0
    assert in_snapshot > 0, "some were killed in the middle of a snapshot"


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2], shared(Path(sys.argv[3])))
