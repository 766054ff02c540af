"""Knobs: live, a turn shows another picture; on a page, one picture and no trace of a widget."""

from __future__ import annotations

import nbformat
import pytest

from ratesim.formatting import format_seconds
from ratesim.notebook import execute, render
from ratesim.pages.html import HTML, escape_html
from ratesim.pages.interactive import Choice, interactive
from ratesim.progress import STATIC, progress_bar

WIDGET = "application/vnd.jupyter.widget-view+json"


def counted(calls):
    def picture(nodes, interval):
        calls.append((nodes, interval))
        return HTML(f"<p>{nodes} nodes, {format_seconds(interval)}</p>")

    return picture


@pytest.fixture
def calls():
    return []


@pytest.fixture
def turning(calls):
    return interactive(
        counted(calls),
        nodes=Choice("nodes", (1, 2, 8), 2),
        interval=Choice("interval", (0.01, 0.1, 1.0), 0.1, format_seconds),
    )


def test_live_there_are_controls_and_the_picture_of_what_they_say(turning, monkeypatch):
    monkeypatch.delenv(STATIC, raising=False)
    bundle = turning._repr_mimebundle_()
    assert bundle[WIDGET]["model_id"] == turning.widget.model_id
    controls, picture = turning.widget.children
    assert [(each.description, each.value) for each in controls.children[:2]] == [("nodes", 2), ("interval", 0.1)]
    assert controls.children[1].options == (("10 ms", 0.01), ("100 ms", 0.1), ("1 s", 1.0))
    assert picture.value == "<p>2 nodes, 100 ms</p>"
    assert bundle["text/html"] == picture.value  # for who can show no widget


def test_a_turn_shows_another_picture_and_turning_back_computes_nothing(turning, calls):
    (nodes, interval, state), picture = turning.widget.children[0].children, turning.widget.children[1]
    nodes.value = 8
    assert picture.value == "<p>8 nodes, 100 ms</p>"
    interval.value = 1.0
    assert picture.value == "<p>8 nodes, 1 s</p>"
    interval.value = 0.1
    assert picture.value == "<p>8 nodes, 100 ms</p>"
    assert calls == [(2, 0.1), (8, 0.1), (8, 1.0)]
    assert state.value == ""


def test_where_a_knob_starts_can_be_chosen_again(calls):
    turning = interactive(counted(calls), nodes=Choice("nodes", (1, 2, 8), 3), interval=Choice("interval", (0.1,), 0.1))
    assert [value for _, value in turning.controls["nodes"].options] == [1, 2, 3, 8]
    assert turning.controls["nodes"].value == 3


def test_what_goes_wrong_while_turning_is_said_beside_the_knob():
    def broken(nodes):
        if nodes > 1:
            raise ValueError("<b>no</b>")
        return HTML("<p>fine</p>")

    turning = interactive(broken, nodes=Choice("nodes", (1, 2), 1))
    with pytest.raises(ValueError, match="no"):
        turning.turn(nodes=2)
    controls, picture = turning.widget.children
    assert controls.children[-1].value == escape_html("ValueError: <b>no</b>")
    assert picture.value == "<p>fine</p>"


def test_a_function_that_fails_at_once_fails_where_it_is_called():
    with pytest.raises(ZeroDivisionError):
        interactive(lambda nodes: HTML(str(1 / nodes)), nodes=Choice("nodes", (0, 1), 0))


def test_static_there_is_the_picture_and_nothing_else(turning, monkeypatch):
    monkeypatch.setenv(STATIC, "1")
    assert turning._repr_mimebundle_() == {"text/html": "<p>2 nodes, 100 ms</p>", "text/plain": repr(turning)}
    assert "widget" not in vars(turning)


def test_static_no_bar_is_shown(monkeypatch, capsys):
    monkeypatch.setenv(STATIC, "1")
    with progress_bar(True) as tell:
        tell(1, 2, "half")
    assert capsys.readouterr() == ("", "")


@pytest.mark.notebooks
def test_an_executed_notebook_has_the_picture_and_no_widgets(tmp_path):
    made = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": "p"}})
    code = [
        "from ratesim.pages.html import HTML\nfrom ratesim.pages.interactive import Choice, interactive",
        "interactive(lambda nodes: HTML(f'<p>{nodes} nodes</p>'), nodes=Choice('nodes', (1, 2), 2))",
        "from ratesim.progress import progress_bar\nwith progress_bar(True) as tell:\n    tell(1, 2, 'half')",
    ]
    made.cells = [*map(nbformat.v4.new_code_cell, code)]
    nbformat.write(made, tmp_path / "in.ipynb")
    execute(tmp_path / "in.ipynb", tmp_path / "out.ipynb", {}, tmp_path)
    seen = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert "widgets" not in seen.metadata
    assert [set(output.data) for cell in seen.cells for output in cell.outputs] == [{"text/html", "text/plain"}]
    page = render(tmp_path / "out.ipynb", "knobs")
    assert "<p>2 nodes</p>" in page
    assert "widget" not in page.lower()
