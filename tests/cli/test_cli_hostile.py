"""Hostile values of options and arguments: one short line, status 2, and nothing expanded, hung or told that is secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from calling import command, refused

NUMBERS = ["", "x", "nan", "inf", "1e400", "-1", "1_0", "１０", "0x10", "9" * 5000, "1.5e"]
PASSWORD = "QXZJ/KV WÄ"


@pytest.mark.parametrize("option", ["--nodes", "--seed", "--replications", "--processes"])
def test_a_whole_number_is_one_in_ascii_digits_within_bounds(option: str) -> None:
    for value in [*NUMBERS, "1.5", "4294967296"]:
        line = refused(command("recommend", "--scenario", "quickstart", option, value), option)
        assert len(line) < 400


@pytest.mark.parametrize("option", ["--speed", "--scale"])
def test_a_number_is_one_in_ascii_digits_within_bounds(option: str) -> None:
    for value in [*NUMBERS, "0", "1e9"]:
        assert len(refused(command("recommend", "--scenario", "quickstart", option, value), option)) < 400


@pytest.mark.parametrize("option", ["--p99", "--rtt", "--loss", "--busiest", "--max-over-admission", "--max-false-denial"])
def test_a_time_or_a_share_is_finite(option: str) -> None:
    for value in ("nan", "inf", "1e400", "1e400s", "-1ms", "1_0ms", "１ms", "5 parsecs", "9" * 5000, "x" * 100_000):
        assert len(refused(command("recommend", "--scenario", "quickstart", option, value))) < 900


@pytest.mark.parametrize(
    "arguments",
    [
        ("--seeds", "0-4294967295"),
        ("--seeds", "1-5," * 50_000),
        ("--seeds", "１-２"),
        ("--replications", "1000000000"),
        ("--set", "deployment.nodes=" + "[" * 50_000),
        ("--set", "deployment.nodes=" + "9" * 5000),
        ("--set", "faults." + "9" * 5000 + ".duration=1"),
        ("--set", "seed=" + ",".join(map(str, range(200_000)))),
        ("--set", "limit.rate=" + ",".join(["1/s"] * 100_001)),
        ("--until", "1e400"),
        ("--until", "10%", "--budget", "1" * 30),
        ("--candidate", "x" * 100_000),
    ],
)
def test_a_range_is_bounded_before_it_is_expanded(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    line = refused(command("sweep", "--out", tmp_path / "a.parquet", *arguments))
    assert len(line) < 2100


@pytest.mark.parametrize(
    "scheme",
    ["u:{}@h:6379", "redis:/u:{}@h", "redis://:{}@h/0", "postgresql://u:{}@h/db", "host=h password='{}'", "mongo://u:{}@h"],
)
def test_no_command_tells_a_password(tmp_path: Path, scheme: str) -> None:
    url = scheme.format(PASSWORD)
    (tmp_path / "storage.toml").write_text(f'[storage]\nurl = "{url}"\n')
    (tmp_path / "scenario.toml").write_text(
        '[workload]\nrequests_per_second = 5\n[limit]\nrate = "1/s"\n[[candidates]]\nname = "a"\n' + f'storage = "{url}"\n'
    )
    calls = [
        ("run", url),
        ("sweep", "--out", tmp_path / "a.parquet", "--candidate", url),
        ("calibrate", "--url", url, "--out", tmp_path / "p.json"),
        ("run", "memory", "--scenario", tmp_path / "scenario.toml"),
        ("report", "--scenario", "quickstart", "--out", tmp_path / "r", "--current", tmp_path / "storage.toml", "--no-live"),
        ("schema", url),
        ("run", "memory", "--scenario", url),
    ]
    for call in calls:
        line = refused(command(*call))
        assert not any(PASSWORD[i : i + 4] in line for i in range(len(PASSWORD) - 3)), line


def test_files_of_every_option_that_are_none_are_one_line(tmp_path: Path) -> None:
    deep, binary = tmp_path / "deep", tmp_path / "binary"
    deep.write_text("a=" + "[" * 100_000)
    binary.write_bytes(b"\xff\xfe\x00" * 1000)
    for path in (deep, binary, tmp_path, "/dev/zero", tmp_path / "missing"):
        for call in (
            ("run", "memory", "--scenario", path),
            ("run", "memory", "--profile", path),
            ("recommend", "--scenario", "quickstart", "--prices", path),
            ("report", "--scenario", "quickstart", "--out", tmp_path / "r", "--current", path, "--no-live"),
            ("recommend", "--limit", "1/s", "--log", path),
        ):
            assert len(refused(command(*call))) < 1500
        if path != tmp_path:
            refused(command("diff", path, path))


@pytest.mark.parametrize(
    "words",
    [
        ("recommend", "--scenario", "quickstart", "--key", "\udced\udca0\udc80"),
        ("report", "--scenario", "quickstart", "--out", "to \udcff"),
        ("schema", "postgresql://h/\udcff"),
        ("\udcff",),
    ],
)
def test_words_that_are_no_utf_8_are_one_line(words: tuple[str, ...]) -> None:
    assert "\\udc" in refused(command(*words), "UTF-8")
