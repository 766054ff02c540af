import bz2
import gzip
import io
import lzma
import os
import random
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import cramjam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from traffic.inputs import containers
from traffic.inputs.containers import TAR_NAME_BYTES
from traffic.inputs.files import LogError
from traffic.inputs.sources import sources
from traffic.inputs.text_lines import BLOCK_BYTES, LINE_BYTES

NO_BOUND = 1 << 40


def some_lines(size: int) -> bytes:
    rng = random.Random(1)
    data = bytearray()
    while len(data) < size:
        data += b"%x\n" % rng.getrandbits(rng.randrange(4, 900))
    return bytes(data)


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "zstd": zstandard.ZstdCompressor().compress,
    "bzip2": bz2.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
    "lz4": lambda data: bytes(cramjam.lz4.compress(data)),
    "snappy": lambda data: bytes(cramjam.snappy.compress(data)),
}


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


def tarred(members: dict[str, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


ARCHIVE: dict[str, Callable[[dict[str, bytes]], bytes]] = {"zip": zipped, "tar": tarred}


@pytest.fixture
def put(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        path = tmp_path / "access.log"
        path.write_bytes(data)
        return path

    return write


def text(path: Path, max_bytes: int = NO_BOUND) -> bytes:
    (found,) = texts(path, max_bytes).values()
    return found


def texts(path: Path, max_bytes: int = NO_BOUND) -> dict[str, bytes]:
    """Return the text of each source by its name behind that of the file."""
    start = len(str(path))
    return {source.name[start:]: b"".join(source.blocks()) for source in sources(path, max_bytes)}


Put = Callable[[bytes], Path]


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_text_comes_back_whole_whatever_the_name(kind: str, put: Put) -> None:
    data = some_lines(BLOCK_BYTES * 5 // 4)
    assert text(put(COMPRESS[kind](data))) == data


@pytest.mark.parametrize("kind", COMPRESS)
def test_joined_members_are_read_one_after_the_other(kind: str, put: Put) -> None:
    assert text(put(b"".join(map(COMPRESS[kind], (b"one\n", b"two\n", b"three"))))) == b"one\ntwo\nthree\n"


def test_a_plain_file_that_has_the_name_of_a_compressed_one_is_plain(tmp_path: Path) -> None:
    for name in ("a.gz", "a.zst", "a.zip", "a.parquet"):
        path = tmp_path / name
        path.write_bytes(b"127.0.0.1 - - nothing compressed here\n")
        assert text(path) == path.read_bytes()


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd"])
def test_zero_bytes_may_pad_the_end(kind: str, put: Put) -> None:
    assert text(put(COMPRESS[kind](b"one\n") + bytes(1000))) == b"one\n"


def test_an_old_lzma_file_and_a_skippable_frame_of_zstd_are_known(put: Put) -> None:
    assert text(put(lzma.compress(b"one\n", lzma.FORMAT_ALONE))) == b"one\n"
    assert text(put(b"\x50\x2a\x4d\x18\x04\0\0\0beef" + COMPRESS["zstd"](b"one\n"))) == b"one\n"


@pytest.mark.parametrize("window_log", [27, 28, 31])
def test_zstd_may_claim_a_long_window(window_log: int, put: Put) -> None:
    squeeze = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    frame = bytearray(squeeze.compress(b"one\n" * 100) + squeeze.flush())
    assert not frame[4] & 0x20  # the frame has a descriptor of its window
    frame[5] = (window_log - 10) << 3
    assert text(put(bytes(frame))) == b"one\n" * 100


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_file_that_was_cut_is_an_error_that_names_it_wherever_it_was_cut(kind: str, put: Put) -> None:
    whole = COMPRESS[kind](some_lines(2000))
    for size in (11, 20, len(whole) // 2, len(whole) - 1):
        with pytest.raises(LogError, match=rf"access\.log: ends in the middle of its {kind} data; copy it again"):
            text(put(whole[:size]))


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_corrupt_file_is_an_error_that_names_it(kind: str, put: Put) -> None:
    whole = bytearray(COMPRESS[kind](b"a line of text\n" * 2000))
    whole[len(whole) // 2 :] = bytes(b ^ 0x5A for b in whole[len(whole) // 2 :])
    with pytest.raises(LogError, match=r"access\.log: .*; copy it again"):
        text(put(bytes(whole)))


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "snappy"])  # the others have a checksum only if asked for
def test_a_bit_that_flipped_is_an_error(kind: str, put: Put) -> None:
    whole = bytearray(COMPRESS[kind](some_lines(2000)))
    whole[len(whole) // 2] ^= 1
    with pytest.raises(LogError, match=r"access\.log: should be a .* or is damaged"):
        text(put(bytes(whole)))


@pytest.mark.parametrize("kind", COMPRESS)
def test_what_follows_a_compressed_file_and_is_none_is_an_error(kind: str, put: Put) -> None:
    with pytest.raises(LogError, match=rf"access\.log: should be a {kind} file and is not one, or is damaged"):
        text(put(COMPRESS[kind](b"one\n") + b"and now a line of text that is not compressed\n"))


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_file_that_inflates_too_far_is_refused_with_the_remedy(kind: str, put: Put) -> None:
    path = put(COMPRESS[kind](b"x" * 99 + b"\n"))
    assert len(text(path, 100)) == 100
    with pytest.raises(LogError, match=r"access\.log: inflates to more than 99 bytes; raise max_bytes"):
        text(path, 99)


@pytest.mark.parametrize(
    ("kind", "filler"), [("gzip", b"a"), ("gzip", b"\n"), ("zstd", b"a"), ("bzip2", b"a"), ("xz", b"a")]
)
def test_a_bomb_takes_little_memory(kind: str, filler: bytes, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    inflated = 64 << 20
    path = put(b"".join(squeezed(kind, (filler * (1 << 20) for _ in range(inflated >> 20)))))
    with pytest.raises(LogError, match="inflates far more than a log does"):
        text(path)
    monkeypatch.setattr(containers, "FREE_WORK", NO_BOUND)
    tracemalloc.start()
    try:
        (longest,) = (max(map(len, source.blocks())) for source in sources(path, NO_BOUND))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert longest <= LINE_BYTES + BLOCK_BYTES
    assert peak < inflated / 2


def squeezed(kind: str, pieces: Iterable[bytes]) -> Iterable[bytes]:
    makers = {
        "gzip": lambda: zlib.compressobj(9, wbits=31),
        "bzip2": bz2.BZ2Compressor,
        "xz": lambda: lzma.LZMACompressor(preset=0),
        "zstd": lambda: zstandard.ZstdCompressor().compressobj(),
    }
    squeeze = makers[kind]()
    for piece in pieces:
        yield squeeze.compress(piece)
    yield squeeze.flush()


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
@pytest.mark.parametrize("line", [b"\n", b"{\n", b",\n", b'"\n'])
def test_lines_that_cost_more_than_their_bytes_are_bounded(kind: str, line: bytes, put: Put) -> None:
    with pytest.raises(LogError, match="inflates far more than a log does"):
        text(put(COMPRESS[kind](line * 5_000_000)))


def test_the_members_of_an_archive_share_the_bound(put: Put) -> None:
    path = put(zipped({"a": b"x" * 99 + b"\n", "b": b"x" * 99 + b"\n"}))
    assert len(texts(path, 200)) == 2
    with pytest.raises(LogError, match=r"access\.log: inflates to more than 199 bytes"):
        texts(path, 199)


def test_an_archive_of_many_tiny_members_is_a_bomb(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tarred({f"{i}": b"x\n" for i in range(1100)}, tarfile.USTAR_FORMAT)
    assert len(texts(put(data))) == 1100
    with pytest.raises(LogError, match=r"access\.log: inflates far more than a log does"):
        texts(put(lzma.compress(data)))
    monkeypatch.setattr(containers, "MOST_MEMBERS", 1000)
    with pytest.raises(LogError, match=r"access\.log: has more than 1000 members; unpack it first"):
        texts(put(data))


# Archives


@pytest.mark.parametrize("kind", ARCHIVE)
def test_each_file_of_an_archive_is_a_source(kind: str, put: Put) -> None:
    files = {
        "logs/a.log": b"one\n",
        "logs/b.log.gz": gzip.compress(b"two\n"),
        "../../etc/c": b"three",
        "/d": b"four\n",
        "./e\x1b[31m": b"five\n",
        "n" * 200 + "/é.log": b"six\n",
        "logs/": b"",
        "empty.log": b"",
        "__MACOSX/logs/a.log": b"no\n",
        "logs/._a.log": b"no\n",
        "logs/.DS_Store": b"no\n",
    }
    found = texts(put(ARCHIVE[kind](files)))
    assert [*found.values()] == [b"one\n", b"two\n", b"three\n", b"four\n", b"five\n", b"six\n"]
    assert [*found][:5] == [":logs/a.log", ":logs/b.log.gz", ":../../etc/c", ":/d", ":./e\\x1b[31m"]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("kind", [*COMPRESS, None])
def test_a_tar_archive_of_any_format_is_read_compressed_or_not(format: int, kind: str | None, put: Put) -> None:
    name = "directory/" * 9 + "n" * 90
    data = tarred({name: b"one\n" * 1000, "b.log": b"two\n"}, format)
    assert texts(put(COMPRESS[kind](data) if kind else data)) == {f":{name}": b"one\n" * 1000, ":b.log": b"two\n"}


def test_what_is_no_file_of_a_tar_archive_is_passed_over(put: Put) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", pax_headers={"comment": "all of it"}) as archive:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo("other")
            info.type, info.linkname = kind, "l" * 200
            archive.addfile(info)
        info = tarfile.TarInfo("a.log")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"one\n"))
    assert texts(put(file.getvalue())) == {":a.log": b"one\n"}
    assert texts(put(file.getvalue() + tarred({"b.log": b"two\n"}))) == {":a.log": b"one\n", ":b.log": b"two\n"}


def test_a_damaged_tar_archive_is_an_error_that_names_it(put: Put) -> None:
    whole = tarred({"a.log": some_lines(3000), "b.log": some_lines(3000)}, tarfile.USTAR_FORMAT)
    second = whole.index(b"b.log")
    for size in (600, 3000, second - 1, second + 100):
        with pytest.raises(LogError, match=r"access\.log: ends in the middle.*; copy it again"):
            texts(put(whole[:size]))
    with pytest.raises(LogError, match=r"access\.log: ends without the zero bytes"):
        texts(put(whole[:second]))
    with pytest.raises(LogError, match=r"access\.log: is a damaged tar archive; copy it again"):
        texts(put(whole[:second] + b"x" + whole[second + 1 :]))


def test_a_tar_archive_cannot_claim_a_name_that_fills_the_memory(put: Put) -> None:
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
        info = tarfile.TarInfo("a.log")
        info.type, info.size = kind, TAR_NAME_BYTES + 1
        with pytest.raises(LogError, match="is a damaged tar archive"):
            texts(put(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)))


@pytest.mark.parametrize("header", [b"11 path=bad\n", b"x path=a\n", b"9999999 path=a\n", b"12 size=-50\n\n", b"0 a=b\n"])
def test_a_damaged_extended_header_is_an_error_or_is_ignored(header: bytes, put: Put) -> None:
    info = tarfile.TarInfo("a.log")
    info.type, info.size = tarfile.XHDTYPE, len(header)
    data = info.tobuf(tarfile.USTAR_FORMAT) + header.ljust(512, b"\0") + tarred({"b.log": b"one\n"}, tarfile.USTAR_FORMAT)
    try:
        (found,) = texts(put(data)).values()
    except LogError as error:
        assert "is a damaged tar archive" in str(error)  # noqa: PT017 - either will do
    else:
        assert found == b"one\n"


def test_a_file_with_holes_in_a_tar_archive_is_refused(put: Put) -> None:
    for header in (b"30 GNU.sparse.major=1\n", b"22 GNU.sparse.major=1\n"):
        info = tarfile.TarInfo("a.log")
        info.type, info.size = tarfile.XHDTYPE, len(header)
        with pytest.raises(LogError, match=r"access\.log: holds files with holes; unpack it first"):
            texts(put(info.tobuf(tarfile.USTAR_FORMAT) + header.ljust(512, b"\0") + tarred({"b.log": b"one\n"})))
    info = tarfile.TarInfo("a.log")
    info.type = tarfile.GNUTYPE_SPARSE
    with pytest.raises(LogError, match="holds files with holes"):
        texts(put(info.tobuf(tarfile.GNU_FORMAT)))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_archive_is_read_whatever_its_compression(method: int, put: Put) -> None:
    data = some_lines(100_000)
    assert texts(put(zipped({"a.log": data}, method))) == {":a.log": data}


def test_a_zip_archive_that_is_encrypted_or_compressed_in_an_unknown_way_is_refused(put: Put) -> None:
    whole = zipped({"a.log": b"one\n" * 100})
    local, central = whole.index(b"PK\x03\x04"), whole.index(b"PK\x01\x02")
    encrypted = bytearray(whole)
    encrypted[local + 6] |= 1
    encrypted[central + 8] |= 1
    with pytest.raises(LogError, match=r"access\.log:a\.log: is encrypted; unpack it first"):
        texts(put(bytes(encrypted)))
    unknown = bytearray(whole)
    unknown[local + 8] = unknown[central + 10] = 9  # deflate64, as Windows writes large ones
    with pytest.raises(
        LogError, match=r"access\.log:a\.log: is compressed in a way that is not known here .*; unpack it first"
    ):
        texts(put(bytes(unknown)))


def test_a_damaged_zip_archive_is_an_error_that_names_it(put: Put) -> None:
    whole = zipped({"a.log": some_lines(3000)})
    for size in (10, 100, len(whole) - 1):
        with pytest.raises(LogError, match=r"access\.log: is a damaged zip archive .*; copy it again"):
            texts(put(whole[:size]))
    with pytest.raises(LogError, match=r"access\.log:a\.log: is a damaged zip archive .*; copy it again"):
        texts(put(whole[:300] + b"\xff" * 50 + whole[350:]))


def test_the_directory_of_a_zip_archive_is_bounded(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "ZIP_DIRECTORY_BYTES", 1 << 12)
    with pytest.raises(LogError, match="its directory is too long"):
        texts(put(zipped({f"{i}.log": b"1\n" for i in range(100)}, zipfile.ZIP_STORED)))


def test_a_workbook_and_an_archive_without_logs_are_refused(put: Put) -> None:
    with pytest.raises(LogError, match=r"access\.log: is an Office document; export its rows as csv"):
        texts(put(zipped({"[Content_Types].xml": b"<a/>", "xl/workbook.xml": b"<a/>"})))
    with pytest.raises(LogError, match=r"access\.log: holds no log; name a log that has lines"):
        texts(put(zipped({})))
    with pytest.raises(LogError, match=r"access\.log: holds no log \(.*:a\.png is a picture\)"):
        texts(put(zipped({"a.png": b"\x89PNG\r\n\x1a\n"})))


def test_containers_in_containers_are_read_down_to_a_depth(put: Put) -> None:
    data = zipped({"logs.tar.gz": gzip.compress(tarred({"a.log.zst": COMPRESS["zstd"](b"one\n")}))})
    assert texts(put(data)) == {":logs.tar.gz:a.log.zst": b"one\n"}
    data = gzip.compress(tarred({"inner.zip": zipped({"a.log": b"one\n"})}))
    assert texts(put(data)) == {":inner.zip:a.log": b"one\n"}
    data = b"one\n"
    for _ in range(5):
        data = gzip.compress(data)
    with pytest.raises(LogError, match=r"access\.log: lies in 4 containers and is one"):
        text(put(data))


def test_a_parquet_file_in_an_archive_is_spooled_as_long_as_it_is_read(put: Put) -> None:
    table = pa.table({"key": ["a", "b"]})
    file = io.BytesIO()
    pq.write_table(table, file)
    path = put(zipped({"a.parquet": file.getvalue(), "b.log": b"one\n"}))
    found = sources(path, NO_BOUND)
    source = next(found)
    assert source.is_parquet
    assert source.path is not None
    assert pq.read_table(source.path).equals(table)
    assert os.stat(source.path).st_mode & 0o077 == 0
    assert not next(found).is_parquet
    assert not os.path.exists(source.path)
    bound = len(file.getvalue()) - 1
    with pytest.raises(LogError, match=f"more than {bound} bytes; raise max_bytes"):
        texts(put(tarred({"a.parquet": file.getvalue()})), bound)


# What is no log


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"\x7fELF\x02\x01\x01" + bytes(9), "a program"),
        (b"MZ\x90\0\x03\0\0\0\x04", "a program"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "a picture"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "a picture"),
        (b"SQLite format 3\0\x10\0", "a SQLite database"),
        (b"\x01\x02\x03\x04\x05\x06\x07\x08DUCK@\0\0\0\0\0\0\0", "a DuckDB database"),
        (b"ElfFile\0" + bytes(8), r"a Windows event log \(\.evtx\)"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(8), "an Office document"),
        (b"LPKSHHRH" + bytes(8), "a systemd journal; export it with journalctl"),
        (b"\xd4\xc3\xb2\xa1\x02\0\x04\0", "a packet capture"),
        (b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a", "a packet capture"),
        (b"Obj\x01\x04\x16avro.schema", "an Avro file"),
        (b"ORC\n\x11\n\x06\x12\x04\x08\x02\x10\0", "an ORC file"),
        (b"PARE\x15\x04\x15\0", "an encrypted parquet file"),
        (b"FEA1\0\0\0\0", "a Feather file of version 1"),
        (b"LZIP\x01\x0c", "compressed with lzip"),
        (b"7z\xbc\xaf\x27\x1c\0\x04", "a 7z archive; unpack it first"),
        (b"Rar!\x1a\x07\x01\0", "a rar archive"),
        (b"\x1f\x9d\x90", r"compressed with compress \(\.Z\); inflate it first"),
        (random.Random(1).randbytes(4096), "binary data, and neither text nor a compression known"),
    ],
)
def test_what_is_no_log_is_refused_by_its_name(head: bytes, what: str, put: Put) -> None:
    with pytest.raises(LogError, match=rf"access\.log: is {what}"):
        text(put(head))
    with pytest.raises(LogError, match=rf"access\.log: is {what}"):
        text(put(gzip.compress(head, mtime=0)))


@pytest.mark.parametrize(
    "line",
    [
        b"MZ is how a line may begin\n",
        b"PARENT,ORC\n",
        b"ORC\n",
        b"LZIP,FEA1\n",
        b"FEA1\n",
        b"\n\r\n\r\n",
        b"BZh9 begins no compressed file\n",
        b"\x01".join([b"203.0.113.7", b"200", b"/a"]) + b"\n",  # as Hive delimits
        b"\x1b[32mGET\x1b[0m /a\t200\x0c\n",
        b'"GET / HTTP/1.1"\n"\x16\x03\x01\x02\x01\x06\x07\x12" 400\n"GET / HTTP/1.1"\n',  # TLS sent to a port without it
        "ФайлЖурнала: 日本語 200\n".encode(),
        "Файл 200\n".encode("cp1251"),
        "日本語 200\n".encode("shift-jis"),
        "Файл 日本語 200\n".encode("utf-16"),
    ],
)
def test_a_text_is_not_refused(line: bytes, put: Put) -> None:
    text(put(line * 100))


def test_what_is_no_log_in_an_archive_is_left_out_and_said(put: Put) -> None:
    path = put(
        zipped({"a.log": b"one\n", "b.png": b"\x89PNG\r\n\x1a\n", "c.xlsx": zipped({"[Content_Types].xml": b"<a/>"})})
    )
    found = sources(path, NO_BOUND)
    assert [source.name for source in found] == [f"{path}:a.log"]
    assert found.left_out == [f"{path}:b.png is a picture", f"{path}:c.xlsx is an Office document"]


# Damage


SOME = some_lines(1500)
WHOLE = {
    **{kind: compress(SOME) for kind, compress in COMPRESS.items()},
    "zip": zipped({"a.log": SOME, "b.log.gz": COMPRESS["gzip"](SOME)}),
    "tar": tarred({"n" * 200: SOME, "b.log.gz": COMPRESS["gzip"](SOME)}),
    "tar.gz": COMPRESS["gzip"](tarred({"n" * 200: SOME}, tarfile.GNU_FORMAT)),
}


@pytest.mark.parametrize("kind", WHOLE)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(st.data())
def test_damage_of_any_kind_is_a_log_error_or_nothing(kind: str, put: Put, data: st.DataObject) -> None:
    whole = bytearray(WHOLE[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(whole) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "repeat"])):
            case "flip":
                whole[place] ^= data.draw(st.integers(1, 255))
            case "cut":
                del whole[place : place + data.draw(st.integers(1, 2000))]
            case "insert":
                whole[place:place] = data.draw(st.binary(max_size=40))
            case "repeat":
                whole += whole[place : place + 1000]
        if not whole:
            break
    try:
        found = texts(put(bytes(whole)))
    except LogError as error:
        assert str(error).isprintable()  # noqa: PT017 - most damage is an error
        return
    for block in found.values():
        assert block[-1:] in (b"", b"\n")
        block.decode()
