"""`ratesim notebook`: parameters arrive as data or not at all; a notebook that failed leaves no page that looks finished."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

import nbformat
import pytest
from calling import command
from examples import examples
from hypothesis import given as for_any
from hypothesis import settings
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager
from papermill.translators import PythonTranslator

from ratesim.notebook import (
    NotebookError,
    NotebookExecutionError,
    OutputError,
    Parameter,
    build,
    execute,
    given,
    notebooks,
    parameters_of,
)

HOSTILE = [
    '"; import os; os.abort() #',
    "'''\n!touch harm\n",
    "\\\n\\",
    "{scenario.__class__} {{}} %s %(x)s",
    "\u2028\u2029\x85\x0b\x0c\r\n%%bash",
    "\x1b]0;evil\x07\x1b[2J",
    "<script>alert(1)</script>",
    "\x00\ud800",
    "?",
]


def notebook(
    *cells: str, parameters: str = 'text = "a"  # what is said\ncount = 3\nshare = 0.5\nlive = True'
) -> nbformat.NotebookNode:
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    made = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": "p"}})
    made.cells = [nbformat.v4.new_markdown_cell("# Does it work?"), first, *map(nbformat.v4.new_code_cell, cells)]
    return made


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A function that puts a notebook among those that ship; what is made goes to the current directory."""
    folder, user = tmp_path / "notebooks", tmp_path / "user"
    folder.mkdir()
    user.mkdir()
    monkeypatch.chdir(user)
    for module in ("build", "catalogue"):  # by its path: the package has a function `build`
        monkeypatch.setattr(import_module(f"ratesim.notebook.{module}"), "notebooks", lambda: folder)

    def put(*cells: str, name: str = "tiny") -> None:
        nbformat.write(notebook(*cells), folder / f"{name}.ipynb")

    return put


# Values -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def known(tmp_path):
    nbformat.write(notebook(), tmp_path / "braces {text}.ipynb")
    return parameters_of(tmp_path / "braces {text}.ipynb")


def test_a_notebook_says_its_parameters_their_defaults_and_what_they_are(known):
    assert [(each.name, each.default, each.comment) for each in known] == [
        ("text", "a", "what is said"),
        ("count", 3, ""),
        ("share", 0.5, ""),
        ("live", True, ""),
    ]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("text", "10", "10"),
        ("text", "true", "true"),
        ("text", '"quoted"', '"quoted"'),
        ("count", "-7", -7),
        ("count", "2e6", 2_000_000),
        ("share", "1", 1.0),
        ("share", "1e-3", 0.001),
        ("live", "false", False),
    ],
)
def test_a_value_is_of_the_kind_of_its_default(known, name, text, value):
    found = given([(name, text)], known)[name]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("count", "3.5"),
        ("count", "true"),
        ("count", "many"),
        ("count", "9" * 5000),
        ("count", "null"),
        ("share", "NaN"),
        ("share", "Infinity"),
        ("share", "1e999"),
        ("share", "false"),
        ("live", "1"),
        ("live", "yes"),
        ("live", "[true]"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_the_name_of_its_parameter(known, name, text):
    with pytest.raises(NotebookError, match=rf"^parameter {name}: '.*' is not .*, such as "):
        given([(name, text)], known)


def test_a_time_or_a_share_needs_its_unit():
    units = [
        Parameter("start", "10s", ""),
        Parameter("p99", "2ms", ""),
        Parameter("part", "1%", ""),
        Parameter("limit", "5/s", ""),
    ]
    assert given([("start", "1 minute"), ("p99", "0"), ("part", "0.5%"), ("limit", "7")], units)["limit"] == "7"
    for name, text, says in (
        ("start", "2", 'parameter start: 2 has no unit; write "2ms" or "2s"'),
        ("p99", "soon", "parameter p99: 'soon' is not a time"),
        ("part", "1", 'parameter part: 1 has no unit; write "1%"'),
    ):
        with pytest.raises(NotebookError) as caught:
            given([(name, text)], units)
        assert str(caught.value).startswith(says)


def test_an_unknown_parameter_and_one_that_stands_twice_are_refused(known):
    with pytest.raises(NotebookError, match=r"parameter 'txt': did you mean text\? known are text, count, share, live"):
        given([("txt", "1")], known)
    with pytest.raises(NotebookError, match="parameter count: given twice"):
        given([("count", "1"), ("count", "2")], known)


@settings(max_examples=examples(400))
@for_any(text=st.one_of(st.text(st.characters()), st.sampled_from(HOSTILE), st.text("\"'\\\n%!?{}#\u2028\x85 \t")))
def test_any_text_arrives_as_it_was_and_nothing_else_is_executed(text):
    code = PythonTranslator.codify({"text": text, "after": "end"})
    assert TransformerManager().transform_cell(code) == code  # no magic, no shell, for IPython to see
    seen: dict[str, object] = {"__builtins__": {}}  # there is nothing that could be called
    exec(code, seen)
    assert {name: value for name, value in seen.items() if name != "__builtins__"} == {"text": text, "after": "end"}


@settings(max_examples=examples(100))
@for_any(value=st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.none()))
def test_any_other_value_arrives_as_it_was(value):
    seen: dict[str, object] = {"__builtins__": {"float": float}}
    exec(PythonTranslator.codify({"value": value}), seen)
    assert (seen["value"], type(seen["value"])) == (value, type(value))


class Sly:
    """Papermill puts its text into quotes, whatever is in it."""

    def __str__(self) -> str:
        return '"; harm = 1; "'


@pytest.mark.parametrize("value", [Sly(), Path('"; harm = 1 #'), ["a"], {"a": "b"}])
def test_only_plain_values_come_near_a_notebook(tmp_path, value):
    nbformat.write(notebook(), tmp_path / "in.ipynb")
    with pytest.raises(TypeError, match="parameter text"):
        execute(tmp_path / "in.ipynb", tmp_path / "out.ipynb", {"text": value}, tmp_path)
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.parametrize("name", ["x; import os", "class", "", "a.b", "x\n!ls"])
def test_only_names_come_near_a_notebook(tmp_path, name):
    with pytest.raises(TypeError, match="is no name"):
        execute(tmp_path / "in.ipynb", tmp_path / "out.ipynb", {name: 1}, tmp_path)


def test_hostile_texts_arrive_in_the_kernel_and_are_only_text_on_the_page(shelf):
    shelf(
        "import json\nfrom ratesim.pages.html import HTML, escape_html",
        "print(json.dumps(text))",
        "HTML(f'<p>{escape_html(text)}</p>')",
    )
    text = "\n".join(each for each in HOSTILE if "\ud800" not in each)
    made = build("tiny", {"text": text}, Path("{text} out"))
    printed = nbformat.read(made.executed, as_version=4).cells[4].outputs[0].text
    assert json.loads(printed) == text
    page = made.page.read_text("utf-8")
    assert "<script" not in page
    assert "\x1b" not in page
    assert sorted(entry.name for entry in Path().iterdir()) == ["{text} out"]


# What is written --------------------------------------------------------------------------------------------------------


def names(folder: Path = Path("reports/tiny")) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_page_without_code_and_the_executed_notebook_are_written_and_progress_names_the_cells(shelf):
    shelf("'count is ' + str(count)")
    told = []
    made = build("tiny", {"count": 4}, progress=lambda done, total, what: told.append((done, total, what)))
    assert made.page == Path("reports/tiny/tiny.html")
    assert names() == ["tiny.html", "tiny.ipynb"]
    page = made.page.read_text("utf-8")
    assert "count is 4" in page
    assert "str(count)" not in page
    assert "<title>ratesim: tiny</title>" in page
    assert told[0] == (0, 4, "# Does it work?")
    assert told[-2:] == [(3, 4, "'count is ' + str(count)"), (4, 4, "done")]
    assert [entry.name for entry in Path().iterdir()] == ["reports"]


def test_paths_in_parameters_count_from_where_the_user_is(shelf):
    Path("mine.log").write_text("found")
    shelf("open(text).read()")
    assert "found" in build("tiny", {"text": "mine.log"}).page.read_text()


def test_a_kernel_takes_no_port_that_another_process_may_take_before_it(shelf):
    shelf("import ipykernel", "print(open(ipykernel.get_connection_file()).read())")
    told = [nbformat.read(build("tiny", {}, Path(name)).executed, as_version=4).cells[-1].outputs[0].text for name in "ab"]
    first, second = map(json.loads, told)
    assert first["transport"] == second["transport"] == ("ipc" if sys.platform == "linux" else "tcp")
    assert (first["ip"], first["shell_port"]) != (second["ip"], second["shell_port"])


def test_a_page_may_have_a_name_of_its_own(shelf):
    shelf("count")
    build("tiny", {}, Path("there/mine.html"))
    assert names(Path("there")) == ["mine.html", "mine.ipynb"]


def test_a_failing_notebook_keeps_what_it_showed_names_the_cell_and_leaves_no_page(shelf):
    shelf("'so far'", "count + 1", "raise ValueError('no \\x1b[31mmore\\nreally')  # here", "'never'")
    with pytest.raises(
        NotebookExecutionError, match=r"tiny failed in cell 6 \(raise ValueError.*# here\): ValueError: no .*more; "
    ) as told:
        build("tiny", {"count": 1})
    assert "\nreally" not in str(told.value)
    assert str(told.value).endswith("reports/tiny/tiny.failed.ipynb")
    assert names() == ["tiny.failed.ipynb"]
    partial = Path("reports/tiny/tiny.failed.ipynb").read_text()
    assert "so far" in partial
    assert [entry.name for entry in Path().iterdir()] == ["reports"]


def test_the_page_of_an_earlier_run_is_not_taken_for_that_of_one_that_failed(shelf):
    shelf("1 / count")
    build("tiny", {"count": 2})
    with pytest.raises(NotebookExecutionError, match="ZeroDivisionError"):
        build("tiny", {"count": 0})
    assert names() == ["tiny.earlier.html", "tiny.earlier.ipynb", "tiny.failed.ipynb"]
    assert "0.5" in Path("reports/tiny/tiny.earlier.html").read_text()
    build("tiny", {"count": 4})
    assert names() == ["tiny.html", "tiny.ipynb"]


@pytest.mark.parametrize("end", ["import os; os._exit(3)", "import sys; sys.exit(0)", "import sys; sys.exit('enough')"])
def test_a_notebook_that_ends_its_process_has_failed_in_that_cell(shelf, end):
    shelf("'so far'", end, "'never'")
    with pytest.raises(NotebookExecutionError, match=r"in cell 4 \(import .*\): "):
        build("tiny", {})
    assert names() == ["tiny.failed.ipynb"]
    assert "so far" in Path("reports/tiny/tiny.failed.ipynb").read_text()


def test_an_executed_notebook_does_not_overwrite_the_one_that_ships(shelf, tmp_path):
    shelf("count")
    with pytest.raises(OutputError, match="the notebook itself"):
        build("tiny", {}, tmp_path / "notebooks")
    Path("file").write_text("")
    with pytest.raises(OutputError, match="file"):
        build("tiny", {}, Path("file"))
    assert names(tmp_path / "notebooks") == ["tiny.ipynb"]


# The command ------------------------------------------------------------------------------------------------------------


def test_without_a_name_every_notebook_is_listed_with_its_question():
    listed = command("notebook")
    assert listed.returncode == 0
    for path in notebooks().glob("*.ipynb"):
        assert any(line.startswith(f"{path.stem} ") and line.endswith("?") for line in listed.stdout.splitlines())


def test_its_parameters_are_listed_with_defaults_and_comments():
    listed = command("notebook", "consistency", "--parameters")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [
        each.name for each in parameters_of(notebooks() / "consistency.ipynb")
    ]
    assert "for each key" in listed.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nosuch\x1b[31m"], "known are algorithms,"),
        (["consistency", "-p", "nods", "3"], "parameter 'nods': did you mean nodes?"),
        (["consistency", "-p", "nodes", "many\x1b]0;x"], "parameter nodes: "),
        (["consistency", "-p", "limit", "a\x1b[31m\nb"], "parameter limit: limit "),
        (["your_log", "-p", "log", "no\x1b[31msuch.log"], "parameter log: "),
        (["consistency", "-p", "nodes"], "-p nodes: write a key and a value"),
        (["consistency", "-p", "nodes=3", "x"], "-p nodes=3: write a key and a value"),
        (["consistency", "--out", "file"], "file"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path, arguments, said):
    (tmp_path / "file").write_text("")
    refused = command("notebook", *arguments, cwd=tmp_path)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "\x1b]" not in refused.stderr
    assert "\x1b[31m" not in refused.stderr
    assert [line.startswith("ratesim: ") for line in refused.stderr.replace("\r", "\n").split("\n")].count(True) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.notebooks
def test_a_notebook_that_fails_ends_with_one_line_and_status_1(tmp_path):
    failed = command("notebook", "incident", "-p", "points", "2", "-p", "limit", "10/second", cwd=tmp_path)
    assert failed.returncode == 1
    assert failed.stdout == ""
    line = failed.stderr.replace("\r", "\n").splitlines()[-1]
    assert line.startswith(
        "ratesim: notebook incident failed in cell 4 (from ratesim.pages.incident import advice_cells, cells): "
        "NotebookError: parameter points: none of 2 sync intervals lies where the rule can be checked"
    )
    assert names(tmp_path / "reports" / "incident") == ["incident.failed.ipynb"]
