"""What a page is made of, before any browser sees it: tables, folded parts and figures that say what they are."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
import specimen
import vendor_axe
from matplotlib.figure import Figure
from PIL import Image

from ratesim.notebook.render import anchor, heading
from ratesim.pages.html import details, figure_html, html_table, prose
from ratesim.pages.recommendation.build import render
from ratesim.pages.style import to_svg

ROOT = Path(__file__).parents[2]
EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    """The page with one of everything."""
    notebook = tmp_path_factory.mktemp("specimen") / "specimen.ipynb"
    specimen.write(notebook)
    return render(notebook, f"a name with {EVIL}")


# Pieces -----------------------------------------------------------------------------------------------------------------


def test_a_table_says_what_its_columns_and_rows_are_about():
    table = html_table(["candidate", "p99"], [["redis", "1 ms"], ["postgres", "2 ms"]]).data
    assert re.findall(r'<th scope="col">(.*?)</th>', table) == ["candidate", "p99"]
    assert re.findall(r'<th scope="row">(.*?)</th>', table) == ["redis", "postgres"]


def test_a_column_without_a_name_has_no_empty_heading():
    table = html_table(["candidate", ""], [["", "passes"]]).data
    assert "<th></th>" not in table
    assert not re.search(r"<th[^>]*></th>", table)


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"caption": "All of them", "label": "unheard"}, "All of them"),
        ({"label": "What was asked"}, "What was asked"),
        ({}, "Table: candidate, p99"),
    ],
)
def test_the_box_of_a_table_has_a_name_and_takes_the_focus(more, name):
    table = html_table(["candidate", "p99"], [["redis", "1 ms"]], **more).data
    assert table.startswith(f'<div class="box" role="region" aria-label="{name}" tabindex="0">')
    assert ("<caption>All of them</caption>" in table) == ("caption" in more)


def test_what_names_a_table_or_what_is_folded_is_text():
    for piece in (html_table(["a"], [["b"]], caption=EVIL).data, html_table(["a"], [["b"]], label=EVIL).data):
        assert "<script" not in piece
    assert details(EVIL, "<p>inside</p>").count("<script") == 0
    assert details("more", "<p>inside</p>") == '<details class="more"><summary>more</summary><p>inside</p></details>'


def test_what_is_for_the_screen_alone_says_so():
    assert details("more", "<p>inside</p>", on_paper=False).startswith('<details class="more screen">')


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ("1.72 ms<br><small>1.64 to 1.79 ms</small>", ' class="n"'),  # its longest line is short
        ('<span class="dot" style="background:#E69F00"></span>memory', ' class="n"'),  # and markup is no text
        ("passes, but costs more: 55 USD a month", ""),
    ],
)
def test_a_number_stays_on_one_line_and_a_sentence_may_be_broken(cell, kind):
    assert f"<td{kind}>{cell}</td>" in html_table(["a", "b"], [["row", cell]]).data


def test_a_long_name_of_a_row_may_be_broken():
    table = html_table(["a", "b"], [["n" * 36, "1"], ["n" * 37, "1"]]).data
    assert table.count('<th scope="row">') == table.count('<th scope="row" class="long">') == 1


def test_sentences_are_text_and_what_stands_between_backticks_is_code():
    assert prose("`--keys` says <b>so</b>") == "<code>--keys</code> says &lt;b&gt;so&lt;/b&gt;"


def _drawn(height: float) -> Figure:
    figure = Figure(figsize=(3, height))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], marker="o")
    axes.set_title("rise")
    return figure


def test_two_figures_on_a_page_share_no_id_and_every_reference_finds_its_own():
    figures = [to_svg(_drawn(height), "It rises.") for height in (2.0, 2.5)]
    ids = [re.findall(r' id="([^"]+)"', figure) for figure in figures]
    for figure, own in zip(figures, ids, strict=True):
        assert own
        assert set(re.findall(r'(?:href="|url\()#([^")]+)', figure)) == set(own)
        assert len(own) == len(set(own))
    assert not set(ids[0]) & set(ids[1])


def test_a_figure_takes_the_focus_and_is_drawn_the_same_twice():
    figure = figure_html((_drawn(2.0), 'Says "so"'), "One line.").data
    assert '<svg role="img" aria-label="Says &quot;so&quot;" tabindex="0"' in figure
    assert figure == figure_html((_drawn(2.0), 'Says "so"'), "One line.").data


@pytest.mark.parametrize(
    ("markdown", "title"),
    [
        ("## Why not the others", "Why not the others"),
        ("## `storage.toml`\n\nmore", "storage.toml"),
        ("# A question?", ""),
        ("### Deeper", ""),
        ("text\n## later", ""),
    ],
)
def test_a_cell_that_begins_with_a_heading_begins_a_part(markdown, title):
    assert heading(markdown) == title


def test_a_part_is_named_by_plain_letters():
    assert anchor("What would change the answer? (x 2)") == "what-would-change-the-answer-x-2"


# The page ---------------------------------------------------------------------------------------------------------------


def test_the_question_comes_first_then_the_way_to_the_parts_then_the_answer(page):
    order = ["Skip to the answer", "<header>", "<h1", "<nav ", "<main ", 'class="choice"', '<h2 id="why-this-one">']
    places = [page.index(piece) for piece in order]
    assert places == sorted(places)
    assert page.count("<h1") == 1
    assert page.count("<section>") == page.count("<h2 ") == 2


def test_a_part_may_begin_with_text(page):
    assert re.search(r'<h2 id="why-this-one">Why this one</h2>\s*<p>With a <a href="#why-not-the-others">link</a>', page)


def test_what_a_cell_said_or_how_it_failed_is_shown_as_text(page):
    assert "<pre>said &lt;b&gt;by the way&lt;/b&gt;" in page
    assert "<strong>This cell failed:</strong> ValueError: &lt;no&gt; more" in page


def test_the_name_of_a_page_is_text(page):
    assert "<script" not in page
    assert page.count("a name with &lt;script&gt;") == 2


def test_a_page_forbids_itself_scripts_and_everything_from_elsewhere(page):
    policy = re.search(r'content="([^"]*)" http-equiv="Content-Security-Policy"', page)[1]
    assert policy.startswith("default-src 'none'; ")
    assert "script" not in policy
    assert "http" not in policy


def test_a_page_with_many_figures_is_one_file_of_less_than_two_megabytes(consistency_notebook):
    page = render(consistency_notebook, "consistency")
    assert page.count("<svg ") >= 4
    assert len(page.encode()) < 2_000_000


# What is kept in the repository -----------------------------------------------------------------------------------------


def test_axe_is_the_one_that_the_script_brings_with_its_license():
    files = vendor_axe.TARGET
    assert {file.name for file in files.iterdir()} == set(vendor_axe.FILES)
    script = (files / "axe.min.js").read_bytes()
    assert hashlib.sha256(script).hexdigest() == vendor_axe.SHA256
    assert script.startswith(f"/*! axe v{vendor_axe.VERSION}\n".encode())
    assert (files / "LICENSE").read_text("utf-8").startswith("Mozilla Public License, version 2.0")


def test_another_axe_than_the_expected_one_is_not_unpacked(tmp_path):
    (tmp_path / "axe.tgz").write_bytes(b"something else")
    with pytest.raises(SystemExit, match=r"its integrity is sha512-.*; nothing was written"):
        vendor_axe.unpack(tmp_path / "axe.tgz", tmp_path / "vendor")
    assert not (tmp_path / "vendor").exists()


def test_the_picture_in_the_readme_is_small():
    picture = ROOT / "docs/report.png"
    assert picture.stat().st_size < 200_000
    with Image.open(picture) as image:
        assert image.width <= 1200
