"""docs/python.md runs as it stands, and a notebook goes from a log to a DataFrame to a plot in ten lines."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import matplotlib as mpl
import nbclient
import nbformat
import pandas as pd
import pytest
from matplotlib import pyplot

import ratesim

PAGE = Path(__file__).parents[1] / "docs" / "python.md"

SESSION = """\
from ratesim import Scenario, run, sweep
scenario = Scenario.from_log("access.log", limit="9/minute", nodes=4, p99="2ms")
scenario
---
result = run(scenario, "memory")
result
---
results = sweep(scenario, candidates=["memory", "redis"], processes=1)
results[["candidate", "seed", "latency_p99", "over_admission"]]
---
results.ratesim.plot()
---
result.plot_over_time()
---
run(scenario, "reddis")
"""


def code_of(page: Path) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    return code


@pytest.mark.slow
def test_the_code_of_the_page_ends_in_a_data_frame(capsys: pytest.CaptureFixture[str]) -> None:
    mpl.use("agg")
    code = code_of(PAGE)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    *statements, last = ast.parse(code).body
    assert isinstance(last, ast.Expr)
    names: dict[str, object] = {}
    exec(compile(ast.Module(statements, []), str(PAGE), "exec"), names)
    shown = eval(compile(ast.Expression(last.value), str(PAGE), "eval"), names)
    pyplot.close("all")
    assert isinstance(shown, pd.DataFrame)
    assert set(shown["candidate"]) == {"redis", "memory"}
    assert (shown["verdict"] == "chosen").sum() == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("Use ")
    assert printed.err == ""


def test_each_name_of_the_page_is_exported() -> None:
    imported = {
        alias.name
        for node in ast.walk(ast.parse(code_of(PAGE)))
        if isinstance(node, ast.ImportFrom) and node.module == "ratesim"
        for alias in node.names
    }
    assert imported <= set(ratesim.__all__)
    for name in ratesim.__all__:
        assert getattr(ratesim, name) is not None
    assert set(ratesim.__all__) <= set(dir(ratesim))


@pytest.mark.notebooks
def test_a_notebook_goes_from_a_log_to_a_frame_to_a_plot(tmp_path: Path) -> None:
    line = '10.0.0.{} - - [17/May/2015:10:05:{:02d} +0000] "GET /a HTTP/1.1" 200 1 "-" "x"\n'
    (tmp_path / "access.log").write_text("".join(line.format(i % 3, i // 3) for i in range(120)))
    session = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in SESSION.split("---\n")])
    client = nbclient.NotebookClient(
        session, kernel_name="python3", allow_errors=True, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    asked, run, table, plot, second, wrong = (cell.outputs for cell in session.cells)
    for outputs, text in ((asked, "9/minute"), (run, "memory on access.log, seed 1"), (table, "latency_p99")):
        (shown,) = [each for each in outputs if each.output_type == "execute_result"]
        assert text in shown.data["text/html"]
    bars = [each for outputs in (run, table) for each in outputs if each.output_type != "execute_result"]
    assert bars, "a progress bar"
    for shown_in in (plot, second):
        assert any("image/png" in each.data for each in shown_in if each.output_type == "display_data")
    (error,) = wrong
    assert error.ename == "ScenarioError"
    assert error.evalue == "candidate 'reddis': did you mean redis?"
