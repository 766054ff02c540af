"""The journal on a real disk: what is recovered, what is cut, what is refused and left as it is."""

from __future__ import annotations

import errno
import shutil
import stat
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crashing_files import CrashingFiles

from ratesim.errors import CapacityError, ConfigurationError, SerializationError, StorageError
from ratesim.storage.journal import Count, Drop, Forget, Journal, Put, RealFiles, Record
from ratesim.storage.journal.records import HEADER_SIZE, Frame, Header

A, B, C = (Put(user, "", user.encode() * 20, 1.7e9) for user in "abc")


class OtherBoot(RealFiles):
    """The disk after the machine was started again."""

    def boot(self) -> bytes:
        return b"another boot, it"


def written(directory: Path, *records: Record, fsync: Any = "interval") -> Path:
    journal = Journal(directory, fsync)
    journal.open()
    for record in records:
        journal.append([record])
    journal.close()
    return directory


def read(directory: Path, files: RealFiles | None = None) -> list[Record]:
    journal = Journal(directory, files=files)
    records = list(journal.open().records)
    journal.close()
    return records


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "lock"}


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


def end_of(directory: Path, frames: int) -> int:
    """The offset in log-0 after so many frames."""
    data = (directory / "log-0").read_bytes()
    header = Header.decode("log", data)
    offset = HEADER_SIZE
    for _ in range(frames):
        frame = Frame.read(memoryview(data), offset, header.marker)
        assert frame is not None
        offset = frame.end
    return offset


# -- what is recovered ------------------------------------------------------------------------------------------------


def test_what_was_appended_is_recovered_to_the_bit(tmp_path: Path) -> None:
    records = [Put("ü\0", "per second", bytes(range(256)), 1.7e9 + 0.1), Count("a", 2**63, 1e-300), Put("", "", b"", np.inf)]
    assert read(written(tmp_path, *records)) == records


def test_the_last_record_of_a_key_counts_and_the_order_is_that_of_the_last_writes(tmp_path: Path) -> None:
    later = Put("a", "", b"later", 2e9)
    assert read(written(tmp_path, A, B, later)) == [B, later]


def test_a_state_a_counter_and_a_name_of_one_identifier_are_three_keys(tmp_path: Path) -> None:
    records = [Put("a", "", b"1", 1.0), Put("a", "second", b"2", 1.0), Count("a", 3, 1.0)]
    assert read(written(tmp_path / "all", *records)) == records
    assert read(written(tmp_path / "drop", *records, Drop("a", "second"))) == [records[0], records[2]]
    assert read(written(tmp_path / "counter", *records, Drop("a", None))) == records[:2]
    assert read(written(tmp_path / "forget", *records, B, Forget("a"))) == [B]
    assert read(written(tmp_path / "again", *records, Forget("a"), records[1])) == [records[1]]


def test_a_snapshot_takes_the_place_of_what_came_before(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open()
    journal.append([A, B])
    assert journal.snapshot([A, B]) == 2
    journal.append([C, Forget("a")])
    journal.close()
    assert sorted(contents(tmp_path)) == ["log-1", "snapshot-1"]
    assert read(tmp_path) == [B, C]


def test_what_is_appended_while_a_snapshot_is_written_is_kept_and_counts(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open()
    journal.append([A, B])
    writer = journal.begin_snapshot()
    later = Put("a", "", b"later", 2e9)
    journal.append([later])
    writer.write([A])
    journal.append([Drop("b", ""), C])
    writer.write([B])
    writer.commit()
    journal.close()
    assert read(tmp_path) == [later, C]


def test_a_snapshot_that_is_given_up_leaves_everything(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open()
    journal.append([A])
    with journal.begin_snapshot() as writer:
        writer.write([A])
    journal.append([B])
    with pytest.raises(StorageError, match="committed or gone"):
        writer.write([B])
    journal.close()
    assert sorted(contents(tmp_path)) == ["log-0", "log-1"]
    assert read(tmp_path) == [A, B]
    journal.open()
    journal.snapshot([A, B])
    journal.close()
    assert sorted(contents(tmp_path)) == ["log-2", "snapshot-2"]


def test_a_snapshot_is_due_when_the_log_has_outgrown_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "never")
    journal.open()
    big = Put("big", "", bytes(1 << 18), 1.0)
    journal.append([big] * 3)
    assert not journal.needs_snapshot
    journal.append([big])
    assert journal.needs_snapshot
    with journal.begin_snapshot():
        assert not journal.needs_snapshot, "one is being written"
    assert not journal.needs_snapshot, "it failed: not again at once"
    journal.append([big] * 4)
    assert journal.needs_snapshot
    journal.snapshot([Put(str(i), "", bytes(1 << 18), 1.0) for i in range(4)])
    journal.append([big] * 7)
    assert not journal.needs_snapshot, "twice the snapshot is more than 1 MiB"
    journal.append([big] * 2)
    assert journal.needs_snapshot
    journal.close()


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "state"
    written(directory, A)
    journal = Journal(directory)
    journal.open()
    journal.snapshot([A])
    journal.close()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert modes == {"lock": 0o600, "log-1": 0o600, "snapshot-1": 0o600}


def test_files_of_others_in_the_directory_are_left_alone(tmp_path: Path) -> None:
    names = ["notes.txt", "log-01", "log-x", "snapshot-1.bak"]
    for name in names:
        (tmp_path / name).write_text("mine")
    written(tmp_path, A)
    assert read(tmp_path) == [A]
    assert all((tmp_path / name).read_text() == "mine" for name in names)


# -- one writer -------------------------------------------------------------------------------------------------------


def test_a_second_opener_is_refused_until_the_first_has_closed(tmp_path: Path) -> None:
    first, second = Journal(tmp_path), Journal(tmp_path)
    first.open()
    with pytest.raises(ConfigurationError, match=r"in use by process \d+; a journal has one writer"):
        second.open()
    first.append([A])
    first.close()
    first.close()
    assert list(second.open().records) == [A]
    second.close()


def test_a_lock_whose_holder_is_dead_is_taken_over(tmp_path: Path) -> None:
    written(tmp_path, A)
    (tmp_path / "lock").write_text("1")  # as a killed process leaves it, whoever has its number now
    journal = Journal(tmp_path)
    recovered = journal.open()
    assert (recovered.unclean, list(recovered.records)) == (True, [A])
    journal.close()
    assert not journal.open().unclean
    journal.close()


def test_a_closed_journal_says_so(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for attempt in (lambda: journal.append([A]), journal.sync, journal.begin_snapshot):
        with pytest.raises(StorageError, match="is not open"):
            attempt()
    journal.open()
    with pytest.raises(StorageError, match="open already"):
        journal.open()
    journal.close()
    with pytest.raises(StorageError, match="is closed"):
        journal.append([A])


def test_threads_may_append_sync_and_snapshot_at_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open()
    records = [[Put(f"{thread}:{i}", "", b"x", 1.0) for i in range(200)] for thread in range(4)]

    def append(mine: list[Put]) -> None:
        for record in mine:
            journal.append([record])

    threads = [threading.Thread(target=append, args=(mine,)) for mine in records]
    for thread in threads:
        thread.start()
    for _ in range(5):
        journal.sync()
        journal.begin_snapshot().abort()
    for thread in threads:
        thread.join()
    journal.close()
    assert {r.identifier for r in read(tmp_path)} == {r.identifier for mine in records for r in mine}


# -- what is cut ------------------------------------------------------------------------------------------------------


def test_a_torn_tail_is_cut_wherever_it_was_torn_and_reported(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole", A, B, C)
    size, good = (whole / "log-0").stat().st_size, end_of(whole, 2)
    for length in range(good, size):
        torn = tmp_path / str(length)
        shutil.copytree(whole, torn)
        with open(torn / "log-0", "r+b") as file:
            file.truncate(length)
        journal = Journal(torn)
        recovered = journal.open()
        assert list(recovered.records) == [A, B]
        assert (recovered.cut_bytes, recovered.cut_records) == (length - good, int(length > good))
        journal.append([C])
        journal.close()
        assert read(torn) == [A, B, C]
        shutil.rmtree(torn)


@pytest.mark.parametrize("tail", [b"garbage", bytes(5000)])
def test_a_tail_that_is_no_record_is_cut(tmp_path: Path, tail: bytes) -> None:
    written(tmp_path, A)
    with open(tmp_path / "log-0", "ab") as file:
        file.write(tail)
    journal = Journal(tmp_path)
    recovered = journal.open()
    assert (recovered.cut_bytes, recovered.cut_records, list(recovered.records)) == (len(tail), 1, [A])
    journal.close()


def test_a_hole_that_a_crash_of_the_machine_may_leave_is_cut_with_what_follows(tmp_path: Path) -> None:
    written(tmp_path, A, B, C)
    flip(tmp_path / "log-0", end_of(tmp_path, 1) + 30)
    journal = Journal(tmp_path, files=OtherBoot())
    recovered = journal.open()
    assert (recovered.cut_records, list(recovered.records)) == (2, [A])
    journal.close()


def test_unfinished_files_are_removed(tmp_path: Path) -> None:
    written(tmp_path, A)
    for name in ("snapshot-1.new", "log-1.new"):
        (tmp_path / name).write_bytes(b"half")
    assert read(tmp_path) == [A]
    assert sorted(contents(tmp_path)) == ["log-0"]


# -- what is refused and left as it is --------------------------------------------------------------------------------


def refused(directory: Path, message: str, files: RealFiles | None = None) -> None:
    before = contents(directory)
    with pytest.raises(StorageError, match=message) as error:
        Journal(directory, files=files).open()
    assert str(directory) in str(error.value)
    assert contents(directory) == before


@pytest.mark.parametrize("frame", [0, 1])
def test_damage_in_the_middle_of_a_log_is_refused_at_every_byte(tmp_path: Path, frame: int) -> None:
    written(tmp_path, A, B, C)
    log = tmp_path / "log-0"
    data = log.read_bytes()
    start = end_of(tmp_path, frame)
    for offset in range(start, end_of(tmp_path, frame + 1)):
        flip(log, offset)
        refused(tmp_path, f"log-0: offset {start}: a damaged record, followed by {2 - frame}")
        log.write_bytes(data)
    assert read(tmp_path) == [A, B, C]


def test_damage_below_what_was_synced_is_refused_after_a_restart_of_the_machine_too(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open()
    journal.append([A])
    journal.append([B])
    journal.sync()
    journal.append([C])
    journal.close()
    flip(tmp_path / "log-0", end_of(tmp_path, 1) + 30)
    refused(tmp_path, "log-0: offset .*damaged record, followed by 1", OtherBoot())


def test_damage_of_a_log_that_another_one_follows_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open()
    journal.append([A])
    journal.append([B])
    journal.begin_snapshot().abort()
    journal.append([C])
    journal.close()
    log = tmp_path / "log-0"
    data = log.read_bytes()
    for length in (len(data) - 1, end_of(tmp_path, 1), HEADER_SIZE):
        log.write_bytes(data[:length])
        refused(tmp_path, r"log-0: offset \d+: damaged|log-1: offset 0: follows a log of")
    log.write_bytes(data)
    flip(log, len(data) - 1)
    refused(tmp_path, "log-0: offset .* and a later log follows")


def test_a_snapshot_is_refused_whatever_byte_is_damaged_and_wherever_it_is_cut(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open()
    journal.snapshot([A, B])
    journal.close()
    snapshot = tmp_path / "snapshot-1"
    data = snapshot.read_bytes()
    for offset in range(len(data)):
        flip(snapshot, offset)
        refused(tmp_path, r"snapshot-1: offset \d+")
        snapshot.write_bytes(data[:offset])
        refused(tmp_path, r"snapshot-1: offset \d+")
        snapshot.write_bytes(data)
    assert read(tmp_path) == [A, B]


@pytest.mark.parametrize("name", ["log-1", "snapshot-1"])
def test_another_version_is_refused_and_named(tmp_path: Path, name: str) -> None:
    journal = Journal(tmp_path)
    journal.open()
    journal.snapshot([A])
    journal.close()
    data = bytearray((tmp_path / name).read_bytes())
    data[7] = 9
    (tmp_path / name).write_bytes(data)
    refused(tmp_path, f"{name}: offset 7: version 9 is unknown; this is version 1")
    (tmp_path / name).write_bytes(b"something else altogether")
    refused(tmp_path, f"{name}: offset 0: no {name[:-2]} of a journal")


@pytest.mark.parametrize("gone", ["log-1", "log-2", "snapshot-1"])
def test_a_missing_file_is_refused(tmp_path: Path, gone: str) -> None:
    journal = Journal(tmp_path)
    journal.open()
    journal.snapshot([A])
    for _ in range(2):
        journal.begin_snapshot().abort()
    journal.close()
    (tmp_path / gone).unlink()
    refused(tmp_path, "log-0 is missing" if gone == "snapshot-1" else f"{gone} is missing")


def test_a_file_under_another_name_is_refused(tmp_path: Path) -> None:
    written(tmp_path, A)
    shutil.copy(tmp_path / "log-0", tmp_path / "log-1")
    refused(tmp_path, "log-1: offset 0: this is log-0")


def test_no_identifier_can_pass_for_a_record(tmp_path: Path) -> None:
    forger = written(tmp_path / "forger", A)
    frame = (forger / "log-0").read_bytes()[HEADER_SIZE:]
    forged = Put(frame.decode("latin-1"), "", frame, 1.0)
    directory = written(tmp_path / "victim", A, forged)
    with open(directory / "log-0", "r+b") as file:
        file.truncate((directory / "log-0").stat().st_size - 1)
    assert read(directory) == [A]


# -- errors of the disk -----------------------------------------------------------------------------------------------


def crashing() -> CrashingFiles:
    return CrashingFiles(np.random.default_rng(0))


def test_a_full_disk_is_capacity_and_nothing_more_is_taken_until_it_is_opened_again() -> None:
    files = crashing()
    journal = Journal(Path("disk"), files=files)
    journal.open()
    journal.append([A])
    files.room = 50
    with pytest.raises(CapacityError, match="disk/log-0: No space left on device"):
        journal.append([B])
    files.room = None
    for attempt in (lambda: journal.append([C]), journal.sync, journal.begin_snapshot):
        with pytest.raises(StorageError, match=r"has failed .* must be closed and opened again"):
            attempt()
    journal.close()
    recovered = journal.open()
    assert (list(recovered.records), recovered.cut_bytes, recovered.cut_records) == ([A], 50, 1)
    journal.append([B])


def test_a_snapshot_that_does_not_fit_leaves_the_journal_working() -> None:
    files = crashing()
    journal = Journal(Path("disk"), files=files)
    journal.open()
    journal.append([A, B])
    for room in range(0, 200, 10):
        files.room = room
        with pytest.raises(CapacityError, match=r"disk/(log|snapshot)-\d+\.new: No space left"):
            journal.snapshot([A, B])
        files.room = None
        journal.append([B])
    assert not [name for name in files.names(Path("disk")) if name.startswith("snapshot")]
    files.kill()
    assert list(Journal(Path("disk"), files=files).open().records) == [A, B]


def test_after_a_failed_fsync_nothing_is_pretended_and_what_is_recovered_is_written_anew() -> None:
    files = crashing()
    journal = Journal(Path("disk"), "always", files)
    journal.open()
    journal.append([A])
    files.sync_fails = True
    with pytest.raises(StorageError, match="disk/log-0: Input/output error"):
        journal.append([B])
    with pytest.raises(StorageError, match="has failed"):
        journal.append([C])
    journal.close()
    recovered = journal.open()
    assert recovered.unclean
    answered = list(recovered.records)
    journal.append([C])
    files.fail_power()
    assert list(Journal(Path("disk"), files=files).open().records) == [*answered, C]


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ENOSPC, CapacityError), (errno.EDQUOT, CapacityError), (errno.EIO, StorageError)]
)
def test_a_real_disks_errors_are_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[StorageError]
) -> None:
    journal = Journal(tmp_path)
    journal.open()

    def fail(*_: object) -> int:
        raise OSError(code, "told so")

    with monkeypatch.context() as patch:
        patch.setattr("ratesim.storage.journal.files.os.write", fail)
        with pytest.raises(kind, match=r"log-0: told so"):
            journal.append([A])
    journal.close()


def test_a_directory_that_is_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        Journal(tmp_path / "file").open()


@pytest.mark.parametrize("record", [Put("\ud800", "", b"", 1.0), Count("a", 2**65, 1.0)])
def test_a_record_that_cannot_be_written_is_refused_with_its_batch_and_the_journal_goes_on(
    tmp_path: Path, record: Record
) -> None:
    journal = Journal(tmp_path)
    journal.open()
    with pytest.raises(SerializationError, match=r"record of"):
        journal.append([A, record])
    journal.append([B])
    journal.close()
    assert read(tmp_path) == [B]


def test_an_interrupted_append_is_not_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    journal.open()

    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ratesim.storage.journal.files.os.write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            journal.append([A])
    with pytest.raises(StorageError, match="was interrupted"):
        journal.append([B])
    journal.close()


# -- fsync ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fsync", "expected"), [("always", 3), ("interval", 1), ("never", 0)])
def test_an_append_of_many_shares_one_fsync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: Any, expected: int
) -> None:
    journal = Journal(tmp_path, fsync)
    journal.open()
    synced: list[int] = []
    monkeypatch.setattr("ratesim.storage.journal.files.os.fsync", synced.append)
    for _ in range(3):
        journal.append([A, B, C])
    journal.sync()
    journal.sync()
    journal.close()
    assert len(synced) == expected


def test_the_format_is_as_written_down(tmp_path: Path) -> None:
    data = (written(tmp_path, Count("a", 1, 2.0)) / "log-0").read_bytes()
    assert data[:8] == b"rs-log\0\x01"
    header = Header.decode("log", data)
    assert (header.generation, header.before) == (0, 0)
    marker, length, synced = struct.unpack_from("<4sIQ", data, 48)
    assert (marker, synced) == (header.marker, 48)
    assert data[64 : 64 + length] == b"\x94\x01\xa1a\x01" + b"\xcb" + struct.pack(">d", 2.0)
    assert len(data) == 64 + length + 4
