import gzip
import io
import os
import sys
import threading
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from itertools import takewhile
from pathlib import Path
from tempfile import gettempdir

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import zstandard

from traffic import read_log
from traffic.inputs.files import FilePath, LogError
from traffic.inputs.sources import files_of, sources
from traffic.inputs.text_lines import BLOCK_BYTES

NO_BOUND = 1 << 40


def texts(*paths: FilePath) -> dict[str, bytes]:
    return {source.name: b"".join(source.blocks()) for source in sources(paths, NO_BOUND)}


def only(path: FilePath) -> bytes:
    (found,) = texts(path).values()
    return found


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Return a directory with a few logs, and with what is none."""
    root = tmp_path / "logs"
    (root / "old" / "older").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / "access.log").write_bytes(b"now\n")
    (root / "access.log.1").write_bytes(b"before\n")
    (root / "old" / "access.log.2.gz").write_bytes(gzip.compress(b"long before\n"))
    (root / "old" / "older" / "x[1].log").write_bytes(b"brackets\n")
    (root / "empty.log").touch()
    (root / ".hidden").write_bytes(b"hidden\n")
    (root / ".git" / "log").write_bytes(b"hidden\n")
    (root / "core").write_bytes(b"\x7fELF" + bytes(20))
    (root / "data.7z").write_bytes(b"7z\xbc\xaf\x27\x1c")
    return root


ALL = {
    "access.log": b"now\n",
    "access.log.1": b"before\n",
    "old/access.log.2.gz": b"long before\n",
    "old/older/x[1].log": b"brackets\n",
}


def test_a_directory_is_all_its_files_that_are_not_hidden_in_order(logs: Path) -> None:
    found = sources(logs, NO_BOUND)
    assert {source.name: b"".join(source.blocks()) for source in found} == {
        f"{logs}/{name}": text for name, text in ALL.items()
    }
    assert found.left_out == [f"{logs}/core is a program", f"{logs}/data.7z is a 7z archive"]
    assert files_of(logs)[0] == f"{logs}/access.log"


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("access.log*", ["access.log", "access.log.1"]),
        ("**/*.gz", ["old/access.log.2.gz"]),
        ("old/**", ["old/access.log.2.gz", "old/older/x[1].log"]),
        ("access.log.[0-9]", ["access.log.1"]),
        ("o*", ["old/access.log.2.gz", "old/older/x[1].log"]),
        ("old/older/x[1].log", ["old/older/x[1].log"]),  # a file has that name
    ],
)
def test_a_pattern_is_the_files_that_match_in_order(pattern: str, names: list[str], logs: Path) -> None:
    assert texts(logs / pattern) == {f"{logs}/{name}": ALL[name] for name in names}


def test_several_names_are_read_one_after_the_other_and_no_file_twice(logs: Path) -> None:
    os.link(logs / "access.log", logs / "hard")
    (logs / "soft").symlink_to(logs / "access.log.1")
    found = sources([logs / "access.log.1", str(logs / "access.log"), logs / "access*", logs / "[cs]o*"], NO_BOUND)
    assert [source.name for source in found] == [f"{logs}/access.log.1", f"{logs}/access.log"]
    assert found.left_out == [
        f"{logs}/access.log is the same file as {logs}/access.log, and is read once",
        f"{logs}/access.log.1 is the same file as {logs}/access.log.1, and is read once",
        f"{logs}/soft is the same file as {logs}/access.log.1, and is read once",
        f"{logs}/core is a program",
    ]


def test_a_source_knows_whether_the_user_named_it(logs: Path) -> None:
    with zipfile.ZipFile(logs / "a.zip", "w") as archive:
        archive.writestr("member", "one\n")
    named = {
        source.name: source.is_named for source in sources([logs / "access.log", logs / "a.zip", logs / "*.1"], NO_BOUND)
    }
    assert named == {f"{logs}/access.log": True, f"{logs}/a.zip:member": False, f"{logs}/access.log.1": False}


def test_a_link_that_is_not_followed_is_said(logs: Path) -> None:
    (logs / "old" / "link").symlink_to("nowhere")
    (logs / "old" / "loop").symlink_to("..")
    assert sources(logs / "old", NO_BOUND).left_out == [
        f"{logs}/old/loop is a link to a directory, which is not followed",
        f"{logs}/old/link is a link that leads nowhere",
    ]


def test_the_sentences_are_not_more_than_a_person_reads(logs: Path) -> None:
    for i in range(30):
        (logs / "void" / f"{i:02}").mkdir(parents=True)
        (logs / "void" / f"{i:02}" / "link").symlink_to("nowhere")
    (logs / "void" / "a.log").write_bytes(b"one\n")
    left_out = sources(logs / "void", NO_BOUND).left_out
    assert len(left_out) == 21
    assert left_out[-1] == "10 more files were left out or are there twice"


def test_a_name_is_shown_without_what_a_terminal_obeys(logs: Path) -> None:
    (logs / "void").mkdir()
    (logs / "void" / "\x1b[31m").write_bytes(b"one\n")
    assert texts(logs / "void") == {f"{logs}/void/\\x1b[31m": b"one\n"}


def test_the_home_directory_may_be_a_tilde(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(logs))
    assert [*texts("~/access.log*")] == [f"{logs}/access.log", f"{logs}/access.log.1"]


def test_a_copy_is_said(logs: Path) -> None:
    (logs / "old" / "copy.gz").write_bytes(gzip.compress(b"now\n"))
    found = sources([logs / "access.log", logs / "old" / "copy.gz"], NO_BOUND)
    assert len(list(found)) == 2
    assert found.left_out == [
        f"{logs}/old/copy.gz begins as {logs}/access.log does: if it is a copy, its requests count twice"
    ]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("nowhere.log", "no such file; check the path"),
        ("nowhere*.log", "matches no file; check the pattern"),
        ("dangling*", "no such file"),
        ("void", "has no file that is not hidden; name a directory with logs"),
        ("access.log/a", "cannot be read: Not a directory"),
        ("core", "is a program; name a log"),
        ("a\0b", "is no name that a file can have"),
        ("\ud800", "is no name that a file can have"),
    ],
)
def test_a_name_that_is_no_log_is_an_error_that_names_it(name: str, problem: str, logs: Path) -> None:
    (logs / "void").mkdir()
    (logs / "dangling*").symlink_to("nowhere")
    with pytest.raises(LogError, match=problem):
        texts(f"{logs}/{name}")


@pytest.mark.parametrize("address", ["https://example.com/access.log", "s3://bucket/a.gz", "file:///var/log/a"])
def test_an_address_is_refused(address: str) -> None:
    with pytest.raises(LogError, match=f"{address}: is an address, and only files are read; download it first"):
        texts(address)


def test_no_name_at_all_is_an_error() -> None:
    with pytest.raises(LogError, match="no log is named"):
        texts()


def test_a_device_is_refused_at_once() -> None:
    for path in ("/dev/zero", "/dev/null"):
        with pytest.raises(LogError, match=f"{path}: is a terminal or a device, which may have no end"):
            texts(path)


def test_a_file_that_may_not_be_read_is_an_error_that_names_it(logs: Path) -> None:
    path = logs / "access.log"
    path.chmod(0)
    root = os.geteuid() == 0
    if root:  # root may read everything, so stop being root for a moment
        for each in (logs, *takewhile(lambda parent: parent != Path(gettempdir()), logs.parents)):
            each.chmod(0o755)
        os.seteuid(65534)
    try:
        with pytest.raises(LogError, match=r"access\.log: may not be read by this user; grant read permission"):
            texts(path)
        with pytest.raises(LogError, match=r"access\.log: may not be read by this user"):
            texts(logs)
    finally:
        if root:
            os.seteuid(0)


def test_an_empty_log_is_a_source_without_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    for data in (b"", gzip.compress(b""), zstandard.ZstdCompressor().compress(b"")):
        path.write_bytes(data)
        assert only(path) == b""
    assert only(tmp_path) == b""


# Standard input and pipes


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


COMPRESS: list[Callable[[bytes], bytes]] = [bytes, gzip.compress, zstandard.ZstdCompressor().compress]


@pytest.mark.parametrize("compress", COMPRESS)
def test_standard_input_is_read_once_and_inflated(
    compress: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin(monkeypatch, compress(b"one\ntwo"))
    found = sources("-", NO_BOUND)
    source = next(found)
    assert (source.name, source.size, source.path, source.is_named) == ("standard input", None, None, True)
    assert source.first() == source.first() == b"one\ntwo\n"
    assert list(source.blocks()) == [b"one\ntwo\n"]


def test_archives_and_parquet_may_come_through_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.log", "one\n")
    stdin(monkeypatch, file.getvalue())
    assert texts("-") == {"standard input:a.log": b"one\n"}
    table = pa.table({"key": ["a", "b"]})
    pq.write_table(table, file := io.BytesIO())
    stdin(monkeypatch, file.getvalue())
    found = sources("-", NO_BOUND)
    source = next(found)
    assert source.is_parquet
    assert source.path is not None
    assert pq.read_table(source.path).equals(table)
    assert next(found, None) is None
    assert not Path(source.path).exists()


def test_a_bomb_through_standard_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, gzip.compress(b"a" * 60_000_000))
    with pytest.raises(LogError, match="standard input: inflates far more than a log does"):
        texts("-")


def test_standard_input_that_is_closed_or_a_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/zero") as device:
        monkeypatch.setattr(sys, "stdin", device)
        with pytest.raises(LogError, match="standard input: is a terminal or a device; pipe a log into it"):
            texts("-")
    for closed in (device, None):
        monkeypatch.setattr(sys, "stdin", closed)
        with pytest.raises(LogError, match="standard input: is closed; pipe a log into it"):
            texts("-")


@pytest.mark.parametrize("kind", ["named", "descriptor", "standard"])
def test_a_pipe_is_read_once_and_to_its_end(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"a line\n" * 100_000  # more than a pipe holds
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=[data])
    writer.start()
    try:
        with path.open("rb") if kind != "named" else nullcontext() as pipe:
            if kind == "standard":
                monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(pipe))
            names = {"named": path, "standard": "-"}
            found = sources(names.get(kind) or f"/dev/fd/{pipe.fileno()}", NO_BOUND)
            (text,) = (b"".join(source.blocks()) for source in found)
    finally:
        writer.join()
    assert text == data


# Reading


def test_a_source_is_read_before_the_next_is_taken(logs: Path) -> None:
    found = sources([logs / "access.log", logs / "access.log.1"], NO_BOUND)
    first, blocks = next(found), next(found).blocks()
    with pytest.raises(RuntimeError, match=r"access\.log: is read after the next source was taken"):
        first.first()
    next(blocks)
    with pytest.raises(StopIteration):
        next(found)
    with pytest.raises(RuntimeError, match=r"access\.log\.1: is read after"):
        next(blocks)
    with pytest.raises(RuntimeError, match=r"access\.log: is read after .*, or all were dropped"):
        next(sources(logs / "access.log", NO_BOUND)).first()


def test_the_file_itself_can_be_read_in_any_order(logs: Path) -> None:
    found = {source.name: source.path for source in sources([logs / "access.log", logs / "old" / "*.gz"], NO_BOUND)}
    assert found == {f"{logs}/access.log": f"{logs}/access.log", f"{logs}/old/access.log.2.gz": None}


def test_a_log_that_grows_is_read_as_long_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"x\n" * BLOCK_BYTES)
    read = 0
    found = sources(path, NO_BOUND)
    for block in next(found).blocks():
        read += len(block)
        with path.open("ab") as file:
            file.write(b"y\n" * BLOCK_BYTES)
    assert read == 2 * BLOCK_BYTES


def test_a_terabyte_that_the_disk_does_not_store_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with path.open("wb") as file:
        file.write(b"one\ncut")
        file.seek(1 << 40)
        file.write(b"two\n")
        file.truncate(1 << 41)
    seen: list[tuple[int, int]] = []
    found = sources(path, NO_BOUND, lambda *progress: seen.append(progress))
    assert [b"".join(source.blocks()) for source in found] == [b"one\ncut\ntwo\n"]
    assert seen[-1] == (1 << 41, 1 << 41)


def test_progress_counts_the_stored_bytes_of_all_files(logs: Path) -> None:
    lines = b"".join(b"%d\n" % i for i in range(400_000))
    (logs / "big.log").write_bytes(lines)
    (logs / "big.gz").write_bytes(gzip.compress(lines, 1))
    with zipfile.ZipFile(logs / "big.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.log", lines)
        archive.writestr("b.log", lines)
    paths = [logs / "big.log", logs / "big.gz", logs / "big.zip", logs / "access.log"]
    seen: list[tuple[int, int]] = []
    for source in sources(paths, NO_BOUND, lambda done, total: seen.append((done, total))):
        for _ in source.blocks():
            pass
    size = sum(path.stat().st_size for path in paths)
    assert seen == sorted(seen)
    assert seen[-1] == (size, size)
    assert {total for _, total in seen} == {size}
    assert len(seen) > 8


def test_progress_of_a_pipe_counts_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, b"one\n")
    seen: list[tuple[int, int]] = []
    assert [b"".join(s.blocks()) for s in sources("-", NO_BOUND, lambda *progress: seen.append(progress))] == [b"one\n"]
    assert seen[-1] == (4, 4)


def test_files_are_closed_when_the_sources_are_dropped(logs: Path) -> None:
    before = len(os.listdir("/dev/fd"))
    for _ in range(5):
        found = sources(logs, NO_BOUND)
        assert next(found).first()
    del found
    assert len(os.listdir("/dev/fd")) == before


# What read_log makes of them

COMBINED = b'203.0.113.7 - - [10/May/2024:06:25:00 +0000] "GET / HTTP/1.1" 200 1 "-" "c"\n'


def test_files_beside_the_logs_are_left_out_and_said(tmp_path: Path) -> None:
    (tmp_path / "access.log").write_bytes(COMBINED)
    (tmp_path / "access.log.1").write_bytes(COMBINED * 2)
    (tmp_path / "README.md").write_bytes(b"# Notes\n\nno requests here\n")
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    provenance = read_log(tmp_path).provenance
    assert (provenance.lines, provenance.parsed, provenance.skipped, provenance.ignored) == (3, 3, 0, 0)
    assert provenance.source == f"{tmp_path}/access.log and 1 more"
    assert [text for text in provenance.assumed if text.startswith("files")] == [
        f"files: {tmp_path}/README.md: no format that is known fits its first lines",
        f"files: {tmp_path}/photo.png is a picture",
    ]
    with pytest.raises(LogError, match=r"README\.md: no format that is known fits"):
        read_log([tmp_path / "access.log", tmp_path / "README.md"])
    with pytest.raises(LogError, match=r"README\.md: no format .*, and none of 1 files is a log; name one"):
        read_log(tmp_path / "README*")


@pytest.mark.parametrize("write", [pq.write_table, feather.write_feather])
def test_columns_in_an_archive_are_read_as_those_in_a_file(write: Callable[..., None], tmp_path: Path) -> None:
    keys = ("203.0.113.7", "198.51.100.9")
    table = pa.table({"time": [1715322300.0, 1715322301.0], "client_ip": keys, "status": [200, 429]})
    write(table, tmp_path / "a")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a", "a.parquet")
    for name in ("a", "a.zip"):
        trace = read_log(tmp_path / name)
        assert trace.keys == keys
        assert trace.time.tolist() == [1715322300.0, 1715322301.0]


def test_each_log_of_a_directory_has_its_own_format(tmp_path: Path) -> None:
    common = b'203.0.113.7 - - [10/May/2024:06:25:00 +0000] "GET / HTTP/1.1" 200 1\n'
    seconds = b'203.0.113.7 - - [10/May/2024:06:25:00 +0000] "GET / HTTP/1.1" 200 1 "-" "c" 0.250\n'
    logs = [COMBINED, COMBINED * 2, common, COMBINED, b"www.example.com:443 " + COMBINED, seconds, COMBINED]
    for i, data in enumerate(logs):
        (tmp_path / f"{i}.log").write_bytes(data)
    together = read_log(tmp_path)
    alone = [read_log(tmp_path / f"{i}.log").provenance for i in range(len(logs))]
    assert together.provenance.parsed == 8
    formats = [each.format.split(" (")[0] for each in alone]
    assert together.provenance.format.count(" (") == len(dict.fromkeys(formats))
    assert all(name in together.provenance.format for name in formats)
