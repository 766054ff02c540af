"""The log of a question: several files, pipes, standard input, and what of it a report writes down."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from ratesim.cli.options import QuestionOptions, UsageError, scenario_from_options
from ratesim.pages.recommendation.portable import has_standard_input, lasting, portable
from ratesim.simulation.scenario.scenario import Scenario, ScenarioError

HEAD, LINES = "time,user\n", [f"{1_700_000_000 + i / 10},u{i}\n" for i in range(30)]


def asked(**options: object) -> Scenario:
    return scenario_from_options(vars(QuestionOptions(limit="9/minute", key="user", **options)))  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "a.csv").write_text(HEAD + "".join(LINES[::2]))
    (tmp_path / "b.csv").write_text(HEAD + "".join(LINES[1::2]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("log", [["a.csv", "b.csv"], ["*.csv"], ["."]])
def test_several_logs_are_merged_in_the_order_of_time(folder: Path, log: list[str]) -> None:
    scenario = asked(log=log)
    assert [scenario.trace().keys[key] for key in scenario.trace().key] == [f"u{i}" for i in range(30)]
    written = portable(scenario, folder / "out").to_toml()
    assert str(folder) not in written
    assert Scenario.parse(written, "written", folder / "out").workload == scenario.workload


def test_standard_input_is_read_once_and_kept_for_this_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = SimpleNamespace(buffer=io.BytesIO((HEAD + "".join(LINES)).encode()), isatty=lambda: False)
    monkeypatch.setattr("sys.stdin", stdin)
    scenario = asked(log=["-"])
    assert (len(scenario.trace()), len(scenario.trace())) == (30, 30)
    assert scenario.workload.log_name == "standard-input"
    assert has_standard_input(scenario)
    written = lasting(portable(scenario, folder)).to_toml()
    assert 'log = "-"' in written
    with pytest.raises(ScenarioError, match=r'workload\.log: "-" is standard input, which is not kept'):
        Scenario.parse(written, "written", folder)
    with pytest.raises(UsageError, match="given twice"):
        asked(log=["-", "-"])
    with pytest.raises(ScenarioError, match="standard input, which can be read once"):
        Scenario.from_log("-", limit="9/minute")


def test_a_terminal_is_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(UsageError, match="standard input is a terminal; pipe a log into it"):
        asked(log=["-"])


def test_a_pipe_is_kept_as_well(folder: Path) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as pipe:
        pipe.write(HEAD + "".join(LINES))
    try:
        scenario = asked(log=[f"/dev/fd/{reader}", "a.csv"])
    finally:
        os.close(reader)
    assert len(scenario.trace()) == 45
    assert lasting(scenario).workload.logs == ("-", str(folder / "a.csv"))


def test_hashes_of_keys_are_the_same_with_the_same_secret(folder: Path) -> None:
    named, unnamed = asked(log=["a.csv"], anonymize=True, key_file="secret"), asked(log=["a.csv"], anonymize=True)
    assert named.trace().keys == asked(log=["a.csv"], anonymize=True, key_file="secret").trace().keys
    assert named.workload.key_file == str(folder / "secret")
    assert all(key.startswith("key-") for key in named.trace().keys)
    assert unnamed.trace().keys != named.trace().keys
    assert lasting(unnamed.model_copy(update={"workload": unnamed.workload.with_secret()})) == unnamed
    with pytest.raises(ScenarioError, match="key_file: is the secret of anonymous keys; set anonymize = true as well"):
        asked(log=["a.csv"], key_file="secret")
