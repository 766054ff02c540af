"""A comment on a pull request: nothing in it gets to act."""

from __future__ import annotations

import nbconvert.filters.markdown_mistune as mistune
import pytest

from ratesim.recommendation.decide.markdown import plain, table


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "[click](javascript:alert(1))",
        "![x](http://example.org/x.png)",
        "| a | b |",
        "**bold** `code` ~~gone~~",
        "@everybody #1",
        "line\nbreak\x1b[31m",
        "&lt;b&gt;",
        "www.example.org",
        "- redis",
        "+ redis",
        "1. redis",
        "10) redis",
    ],
)
def test_a_text_from_outside_reads_as_it_is(text):
    page = mistune.markdown2html_mistune(plain(text))
    for tag in ("<script", "<a ", "<img", "<strong", "<code", "<table", "<b>", "<del", "<li"):
        assert tag not in page
    assert "\n" not in plain(text)
    assert "\x1b" not in plain(text)


def test_a_table_has_as_many_cells_as_its_head_whatever_is_in_them():
    lines = table(("a", "b"), [("x|y", "**z|z**")])
    assert lines[2] == r"| x\|y | **z\|z** |"
