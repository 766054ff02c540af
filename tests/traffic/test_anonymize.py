import copy
import os
import pickle
import stat
from pathlib import Path

import pytest

from traffic import Provenance, Trace
from traffic.anonymize import AnonymizeError, Anonymizer

LIMITS = "the service limits: 1 answers 429 (33.3 %) are replayed as demand"
SECRET = b"sixteen bytes ok"


def test_a_name_is_stable_with_one_secret_and_another_with_another() -> None:
    one, again, other = Anonymizer(SECRET), Anonymizer(SECRET), Anonymizer(b"another secret of mine")
    assert one.name("203.0.113.7") == again.name("203.0.113.7") == one.names(["203.0.113.7"])[0]
    assert one.name("203.0.113.7") != other.name("203.0.113.7")
    assert one.name("203.0.113.7") != one.name("203.0.113.8")
    assert Anonymizer().name("a") != Anonymizer().name("a")


def test_the_hash_of_a_name_is_not_the_hash_without_a_secret_nor_the_one_of_a_path() -> None:
    from hashlib import blake2b

    anonymizer = Anonymizer(SECRET)
    name = anonymizer.name("/a")
    assert name.startswith("key-")
    assert len(name) == 24
    assert name != "key-" + blake2b(b"/a", digest_size=10).hexdigest()
    assert name != "key-" + blake2b(b"/a", key=SECRET, digest_size=10).hexdigest()
    assert name[4:] not in anonymizer.endpoint("/a")


@pytest.mark.parametrize("name", ["-", "all", "other"])
def test_names_that_tell_of_nobody_stay(name: str) -> None:
    anonymizer = Anonymizer(SECRET)
    assert anonymizer.name(name) == anonymizer.endpoint(name) == name


def test_an_endpoint_keeps_its_method_only() -> None:
    anonymizer = Anonymizer(SECRET)
    place = anonymizer.endpoint("GET /~alice")
    assert place.startswith("GET /")
    assert "alice" not in place
    assert anonymizer.endpoint("POST /~alice") == place.replace("GET", "POST")
    assert anonymizer.endpoint("GET /") == "GET /"
    for field in ("alice smith", "GET alice", "ALICE SMITH", "two\nlines /x", ""):
        assert not any(word in anonymizer.endpoint(field) for word in ("alice", "ALICE", "SMITH", "two", "x"))


def test_a_trace_loses_every_name_and_no_figure() -> None:
    assumed = (
        "/srv/acme.log: key: client, field ip",
        "key: client, field ip",
        "format: guessed, '$a acme'",
        "time: field t",
    )
    origin = Provenance(
        "/srv/alice/acme.log", 4, 3, 1, ("203.0.113.7 oops",), ("/srv/acme.zip: skipped", LIMITS), assumed=assumed
    )
    trace = Trace(
        [1.0, 2.0, 3.0], [0, 1, 0], ["203.0.113.7", "bob"], cost=[1, 2, 3], session=[5, 6, 5], endpoint=[0, 1, 0],
        endpoints=["GET /~alice", "other"], status=[200, 429, 200], grain=[1, 0, 60], provenance=origin,
    )  # fmt: skip
    hidden = Anonymizer(SECRET).trace(trace)
    for name in ("time", "key", "cost", "session", "endpoint", "status", "grain"):
        assert getattr(hidden, name).tolist() == getattr(trace, name).tolist()
    shown = repr((hidden.keys, hidden.endpoints, hidden.provenance))
    assert not any(word in shown for word in ("203", "bob", "alice", "acme", "oops"))
    assert hidden.provenance.notes == (LIMITS, "names are keyed hashes")
    assert (hidden.provenance.lines, hidden.provenance.skipped) == (4, 1)
    assert hidden.provenance.assumed == ("key: client, field ip", "time: field t")


def test_the_secret_is_never_shown_or_written() -> None:
    anonymizer = Anonymizer(SECRET)
    assert repr(anonymizer) == str(anonymizer) == "Anonymizer()"
    for write in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="holds a secret"):
            write(anonymizer)
    with pytest.raises(AnonymizeError, match=r"^secret: has 15 bytes, which could be guessed; use 16 or more$"):
        Anonymizer(b"too short a one")


def test_a_key_file_is_made_private_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    name = Anonymizer.from_file(path).name("a")
    assert Anonymizer.from_file(str(path)).name("a") == name
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["secret"]


def test_the_last_line_feed_is_no_part_of_the_secret(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(SECRET + b"\n")
    path.chmod(0o400)
    assert Anonymizer.from_file(path).name("a") == Anonymizer(SECRET).name("a")


def test_a_key_file_that_cannot_be_used_is_named_with_the_remedy_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    path.chmod(0o640)
    with pytest.raises(AnonymizeError, match=r"secret': others can read it; chmod 600 it$"):
        Anonymizer.from_file(path)
    path.chmod(0o600)
    path.write_bytes(b"fifteen letters\n")
    with pytest.raises(AnonymizeError, match=r"16 to 65536 bytes, this one 15; remove the file") as caught:
        Anonymizer.from_file(path)
    assert "letters" not in str(caught.value)
    path.write_bytes(b"x" * 70_000)
    with pytest.raises(AnonymizeError, match="this one more"):
        Anonymizer.from_file(path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for odd in (pipe, Path(os.devnull)):
        with pytest.raises(AnonymizeError, match="is no plain file"):
            Anonymizer.from_file(odd)
    with pytest.raises(IsADirectoryError):
        Anonymizer.from_file(tmp_path)
    with pytest.raises(FileNotFoundError):
        Anonymizer.from_file(tmp_path / "missing" / "secret")
