"""A log of which much is lost: that is said first everywhere, and the evidence is too thin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from calling import command
from tiny_report import tiny

from ratesim.pages.recommendation.cells import verdict
from ratesim.recommendation import recommend
from ratesim.recommendation.decide.check import check
from ratesim.recommendation.decide.junit import junit
from ratesim.recommendation.decide.markdown import markdown
from ratesim.recommendation.decide.recommendation import Recommendation
from ratesim.recommendation.investigate.study import Study, study

LOST = "30 of 330 lines of access.log (9.1 %) could not be read and are missing from all that follows"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lossy")
    tiny(folder)
    with (folder / "access.log").open("a") as file:
        file.write("198.51.100.7 is lost\n" * 29)
    return folder


@pytest.fixture(scope="module")
def studied(log: Path) -> Study:
    return study(tiny(log, replications=1), live=False, beyond=False, processes=1, progress=False)


@pytest.fixture(scope="module")
def chosen(studied: Study) -> Recommendation:
    return recommend(studied)


def test_it_is_the_first_that_page_and_markdown_say(studied: Study, chosen: Recommendation) -> None:
    assert chosen.lost_note.startswith(LOST)
    assert markdown(chosen).startswith("**Lost lines** 30 of 330 lines")
    page = verdict(studied, chosen).data
    assert page.lstrip().startswith('<p class="note"><b>Lost lines</b> 30 of 330 lines')
    assert page.index("Lost lines") < page.index(chosen.choice or "no candidate")
    assert "198.51.100.7" not in page + markdown(chosen) + chosen.to_json().decode()


def test_a_check_is_too_thin_with_that_sentence(chosen: Recommendation) -> None:
    assert (check(chosen).status, check(chosen).sentence) == (3, f"The evidence is too thin. {chosen.lost_note}")
    assert "30 of 330 lines" in junit(chosen)


def test_the_json_has_the_counts_which_add_up(chosen: Recommendation) -> None:
    read = json.loads(chosen.to_json())["log"]
    assert read["lines"] == read["requests"] + read["lost"] + read["ignored"] == 330
    assert (read["lost_note"], read["stamps_note"]) == (chosen.lost_note, chosen.log.stamps_note if chosen.log else "")
    assert read["stamps_note"].startswith("All requests have stamps that are exact to 1 s")
    assert read["examples"][1] == "000.00.000.0 xx xxxx"


def test_the_terminal_says_it_before_the_verdict(log: Path) -> None:
    (log / "scenario.toml").write_text(tiny(log, replications=1).to_toml())
    said = command("recommend", "--scenario", log / "scenario.toml", "--processes", 1)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith(LOST)
    assert "198.51.100.7" not in said.stdout
    assert "30 of 330 lines did not parse; the first of them (letters as x and digits as 0" in said.stdout
