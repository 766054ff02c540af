"""`ratesim formats`, `trace convert` and `trace describe`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from calling import command, refused

from ratesim import Scenario
from ratesim.cli.trace_description import described, text
from traffic import Provenance, Trace
from traffic.formats import FORMATS

LINE = '203.0.113.{client} - - [10/May/2024:06:25:{second:02d} +0000] "GET /a HTTP/1.1" {status} 12 "-" "curl"\n'


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "access.log"
    lines = [LINE.format(client=i % 3, second=i % 60, status=429 if i % 10 == 9 else 200) for i in range(200)]
    path.write_text("".join(lines) + "198.51.100.9 is no request\n")
    return path


def test_every_format_is_listed_with_who_writes_it_and_an_example() -> None:
    shown = command("formats")
    assert shown.returncode == 0
    for each in FORMATS.values():
        assert f"{each.name:<18}{each.title}" in shown.stdout
        assert f"\n    {each.example.splitlines()[0][:60]}" in shown.stdout
    assert "--log-format" in shown.stdout
    listed = json.loads(command("formats", "--json").stdout)
    assert [each["name"] for each in listed] == list(FORMATS)
    assert listed[0].keys() == {"name", "title", "example", "source"}


@pytest.mark.parametrize("name", ["out.parquet", "out.csv"])
def test_a_log_becomes_a_trace_and_a_file_that_is_there_is_kept(log: Path, name: str) -> None:
    out = log.with_name(name)
    made = command("trace", "convert", log, out)
    assert (made.returncode, made.stdout.splitlines()[-1]) == (
        0,
        f"{out}: 201 lines = 200 requests + 1 lost + 0 no request",
    )
    read = (Trace.from_parquet if name.endswith("parquet") else Trace.from_csv)(out)
    assert (len(read), len(read.keys)) == (200, 3)
    refused(command("trace", "convert", log, out), f"{out}: is there already; name another file, or give --force")
    assert command("trace", "convert", log, out, "--force", "--key", "none").returncode == 0
    assert (Trace.from_parquet if name.endswith("parquet") else Trace.from_csv)(out).keys == ("all",)
    assert sorted(path.name for path in log.parent.iterdir()) == ["access.log", name]


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("out.json", "name a .parquet or .csv file to write to, as the last argument"),
        ("no/out.csv", "name a file in a directory that is there"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_read(tmp_path: Path, out: str, said: str) -> None:
    refused(command("trace", "convert", tmp_path / "no.log", tmp_path / out), said)


def test_a_log_is_described_without_its_clients_unless_they_are_asked_for(log: Path) -> None:
    plain, full = (command("trace", "describe", log, *more) for more in ((), ("--show-keys",)))
    assert "201 lines = 200 requests + 1 lost + 0 no request" in plain.stdout
    assert "2024-05-10T06:25:00.000Z to 2024-05-10T06:25:59.000Z" in plain.stdout
    assert "200: 180, 429: 20" in plain.stdout
    assert "all exact to 1 s" in plain.stdout
    assert "000.00.000.0 xx xx xxxxxxx" in plain.stdout
    assert "203.0.113.0/24" in plain.stdout
    for client in ("203.0.113.1", "198.51.100.9"):
        assert client not in plain.stdout
        assert client in full.stdout
    found = json.loads(command("trace", "describe", log, "--json").stdout)
    assert found["lines"] == found["requests"] + found["lost"] + found["ignored"] == 201
    assert (found["grain"], found["keys"], found["statuses"]) == ({"1": 200}, 3, {"200": 180, "429": 20})


def test_a_description_has_what_was_read_as_what_and_assumed() -> None:
    origin = Provenance(
        "d/a.log", 10, 7, 1, ("10.0.0.1 x",), ("read",), 2, ("The key is remote_addr.",), "common (70 % of the first lines)"
    )
    trace = Trace([0.0, 0.5, 60.0], [0, 1, 0], ["k1", "k2"], grain=[0.0, 0.0, 60.0], provenance=origin)
    found = described(trace)
    assert (found["source"], found["format"], found["grain"]) == (
        "a.log",
        "common (70 % of the first lines)",
        {"0": 2, "60": 1},
    )
    assert [each["requests"] for each in found["top_keys"]] == [2, 1]
    lines = "\n".join(text(found))
    for said in ("a.log as common (70 %", "10 lines = 7 requests + 1 lost + 2 no request", "The key is remote_addr."):
        assert said in lines
    assert "67 % exact; 33 % exact to 60 s" in lines
    assert "in no line" in lines
    assert "k1" not in lines
    assert described(trace, show_keys=True)["top_keys"][0] == {"key": "k1", "requests": 2}


def test_key_file_without_anonymize_is_refused(log: Path) -> None:
    refused(command("trace", "describe", log, "--key-file", log.with_name("secret")), "--key-file: is the secret of")


def test_a_log_becomes_a_recipe_that_takes_its_place_and_names_nobody(log: Path) -> None:
    made = command(
        "trace", "fit", log, "--keys", "30", "--requests-per-second", "20", "--duration", "2 minutes", "--limit", "10/minute"
    )
    assert made.returncode == 0
    assert made.stdout.startswith("# Learned from 200 requests; ")
    assert "A recipe does not carry names" in made.stdout.replace("\n# ", " ")
    assert "bursts of a key in 1 s" in made.stderr
    assert "203.0.113" not in made.stdout + made.stderr
    path = log.with_name("recipe.toml")
    path.write_text(made.stdout)
    assert str(Scenario.load(path).limit.rate) == "10/minute"
    trace = Scenario.load(path).trace()
    assert len(trace) == pytest.approx(2400, abs=30)
    assert len(trace.keys) == 30
    refused(command("trace", "fit", log, "--duration", "long"), "--duration: 'long'")
    refused(command("trace", "fit", log, "--keys", "1"), "keys must be at least one for each of 2 groups, got 1")


def test_the_busiest_time_is_no_shorter_than_the_grain_and_a_loss_is_said_first() -> None:
    origin = Provenance("a.log", 103, 100, 3)
    trace = Trace([60.0 * (i // 50) for i in range(100)], [0] * 100, ["k"], grain=[60.0] * 100, provenance=origin)
    lines = text(described(trace))
    assert lines[0].endswith("3 of 103 lines could not be read and are missing from what follows")
    assert any("50 requests in the busiest 1 min" in line for line in lines)
