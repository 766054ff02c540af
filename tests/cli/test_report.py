"""The report: whole or not at all, self-contained, the verdict first, and nothing from a log gets to act in it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from calling import command
from tiny_report import EVIL, tiny

from ratesim.notebook.render import chart_script
from ratesim.pages.chart import VEGA_LITE
from ratesim.pages.recommendation import build
from ratesim.pages.recommendation.build import (
    OutputError,
    PartialReportError,
    ReportError,
    ensure_writable,
    notebooks,
    report,
)
from ratesim.recommendation.decide.check import check
from ratesim.recommendation.investigate.study import FILES
from ratesim.simulation.scenario.scenario import Scenario

pytestmark = pytest.mark.notebooks


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


def test_every_file_is_there_and_nothing_else(tiny_report):
    out, chosen = tiny_report.out, tiny_report.recommendation
    names = {"report.html", "report.ipynb", "recommendation.json", "recommendation.md", "report.junit.xml", *FILES}
    assert {entry.name for entry in out.iterdir()} == names | {"scenario.toml", "profile.json", "prices.toml", *chosen.files}
    assert [entry.name for entry in out.parent.iterdir()] == ["out"]
    assert json.loads((out / "recommendation.json").read_text())["choice"] == chosen.choice
    assert (pd.read_parquet(out / "results.parquet")["stage"] == "in full").sum() == 6


def test_the_page_loads_nothing_and_runs_nothing_but_its_chart(tiny_report):
    text = (tiny_report.out / "report.html").read_text("utf-8")
    page = Page(text)
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert scripts == [{"type": VEGA_LITE}, {}]  # the data of the chart, and what the policy names by its hash
    assert text.count(chart_script()) == 1
    text = text.replace(chart_script(), "")
    for tag, attributes in page.tags:
        assert tag not in {"iframe", "object", "embed", "img", "base"}
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("#", "data:")), (tag, value)
    assert not re.search(r"@import|url\((?!#)", text)
    assert "recommend(study)" not in text  # no code cells


def test_the_page_is_smaller_than_two_megabytes(tiny_report):
    assert (tiny_report.out / "report.html").stat().st_size < 2_000_000


def test_the_verdict_is_the_first_that_is_said_and_the_lost_line_follows(tiny_report):
    words = " ".join(Page((tiny_report.out / "report.html").read_text("utf-8")).words)
    verdict = words.index(tiny_report.recommendation.verdict)
    assert verdict < words.index("1 of 301 lines of access.log did not parse") < words.rindex("Traffic")
    assert EVIL in words  # shown as text, and test_the_page_loads_nothing finds no such element


def test_no_file_names_a_client_of_the_log(tiny_report):
    assert "10.0.0.0/24" in (tiny_report.out / "details.json").read_text()
    for path in tiny_report.out.iterdir():
        text = pd.read_parquet(path).to_csv() if path.suffix == ".parquet" else path.read_text("utf-8")
        assert not re.search(r"10\.0\.0\.[0-9](?!/24)", text), path


def test_the_figure_says_what_it_shows_to_who_cannot_see_it(tiny_report):
    figures = [attributes for tag, attributes in Page((tiny_report.out / "report.html").read_text()).tags if tag == "svg"]
    assert len(figures) == 4
    assert {each["role"] for each in figures} == {"img"}
    assert all("hybrid" in each["aria-label"] for each in figures)


def test_progress_ends_where_it_said_it_would(tiny_report):
    seen = tiny_report.progress
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_the_scenario_beside_the_report_asks_the_same_again(tiny_report):
    out = tiny_report.out
    again = Scenario.load(out / "scenario.toml")
    assert again.model_dump() == tiny(out.parent.parent).model_dump()
    assert "../../access.log" in (out / "scenario.toml").read_text()


def test_a_failing_notebook_keeps_what_it_showed_names_the_cell_and_leaves_the_last_report(tmp_path):
    broken = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": "p"}}
    )
    broken.cells = [
        nbformat.v4.new_code_cell("print('so far')"),
        nbformat.v4.new_code_cell("raise ValueError('no more')"),
    ]
    nbformat.write(broken, tmp_path / "broken.ipynb")
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.html").write_text("the last one")
    with pytest.raises(ReportError, match=r"cell 3 \(raise .*\): ValueError: no more; .*out\.failed\.ipynb"):
        report(tiny(tmp_path), out, live=False, notebook=tmp_path / "broken.ipynb")
    assert "so far" in (tmp_path / "out.failed.ipynb").read_text()
    assert [entry.name for entry in out.iterdir()] == ["report.html"]
    assert (out / "report.html").read_text() == "the last one"
    names = sorted(entry.name for entry in tmp_path.iterdir())
    assert names == ["access.log", "broken.ipynb", "out", "out.failed.ipynb", "out.runs"]  # for the next attempt


def test_a_report_that_was_stopped_keeps_its_runs_beside_it_until_it_is_there(tmp_path):
    def interrupt(done, total, what):
        if "redis, seed" in what:
            raise KeyboardInterrupt

    scenario = tiny(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        report(scenario, tmp_path / "out", live=False, processes=1, progress=interrupt)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["access.log", "out.runs"]
    told = []
    report(scenario, tmp_path / "out", live=False, processes=1, progress=lambda done, total, what: told.append(what))
    assert next(what for what in told if ", seed" in what).startswith("screening 3 candidates: hybrid")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["access.log", "out"]


def test_a_study_that_fails_leaves_no_directory(tmp_path):
    scenario = tiny(tmp_path, workload={"log": str(tmp_path / "missing.log")})
    with pytest.raises(ValueError, match=r"missing\.log"):
        report(scenario, tmp_path / "a" / "b" / "out", live=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["access.log"]


def test_a_partial_report_ends_with_1_and_with_check_as_it_was_judged(tiny_report, monkeypatch, tmp_path):
    def partial(*_, **__):
        raise PartialReportError(
            "the report is written without some live measurements (redis: it died)", tiny_report.recommendation
        )

    monkeypatch.setattr(build, "report", partial)
    question = ("report", "--scenario", "quickstart", "--out", tmp_path / "out")
    judged = check(tiny_report.recommendation)
    for more, status in (((), 1), (("--check",), judged.status)):
        result = command(*question, *more)
        assert result.returncode == status
        assert tiny_report.recommendation.verdict in result.stdout
        assert result.stderr.endswith("ratesim: the report is written without some live measurements (redis: it died)\n")
    assert judged.sentence in result.stdout


def test_a_file_is_no_place_for_a_report(tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="file"):
            ensure_writable(out)


def test_neither_the_root_nor_a_link_to_nowhere_is_a_place_for_a_report(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for out in (Path("/"), tmp_path / "link", tmp_path / "loop"):
        with pytest.raises(OutputError, match="name a directory"):
            ensure_writable(out)


def test_the_notebook_is_thin_and_without_outputs():
    notebook = nbformat.read(notebooks() / "recommendation.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) <= 12
    assert [cell for cell in code if "parameters" in cell.metadata.get("tags", [])] == [code[0]]
    assert all(len(cell.source.splitlines()) <= 12 for cell in code[1:])  # the parameters have a line each
    for cell in code:
        assert cell.outputs == []
        assert cell.execution_count is None
