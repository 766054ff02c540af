"""The page of a report on a hundred candidates, eleven of them contenders: a small report, its own figures under many names.

No run is made for it. What it shows is as long and as wide as a report gets: names, intervals, reasons and pictures.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_output
from tiny_report import TinyReport

import ratesim
from ratesim.notebook import notebooks, render
from ratesim.pages.recommendation import cells
from ratesim.recommendation.assess.assessment import Interval
from ratesim.recommendation.assess.rejections import Rejection
from ratesim.recommendation.decide.recommendation import Recommendation
from ratesim.recommendation.investigate.study import Study, study
from ratesim.simulation.scenario.scenario import Scenario

CONTENDERS = [f"hybrid session write-behind {wait} s" for wait in (1, 2, 5, 10)]
CONTENDERS += [f"gcra, hybrid eventual read-through over cluster {number}" for number in range(4)]
SCREENED = [f"hybrid eventual refresh-ahead over postgres {wait} ms" for wait in range(89)]
LATENCY = Interval(1.4142e-3, 1.2345e-3, 1.5678e-3, 3)
SHARE = Interval(0.0234, 0.0123, 0.0345, 3)


def crowded(tiny: TinyReport) -> tuple[Study, Recommendation]:
    """Return the study of the small report, and what it says, with as many candidates as by default."""
    found = study(Scenario.load(tiny.out / "scenario.toml"), out=tiny.out, live=False)
    said = tiny.recommendation
    model = next(each for each in said.assessments if each.candidate == "hybrid")
    wide = {"p50": LATENCY, "p99": LATENCY, "over_admission": SHARE, "worst_excess": SHARE, "false_denial": SHARE}
    more = tuple(replace(model, candidate=name, **wide) for name in CONTENDERS)
    impacts = [each for each in said.fault_impacts if each.candidate == "hybrid"]
    findings = found.findings
    screened = tuple(replace(model, candidate=name) for name in SCREENED)
    details = findings.details | dict.fromkeys(CONTENDERS, findings.details["hybrid"])
    many = replace(findings.screened, assessments=(*findings.screened.assessments, *more, *screened))
    reasons = tuple(Rejection(name, "is not shown to meet p99: p99 1.89 ms [1.84 to 2.04 ms]") for name in CONTENDERS)
    reasons += tuple(Rejection(name, "on the small part: fails p99: p99 3.09 ms (2 ms allowed)") for name in SCREENED)
    return replace(found, findings=replace(findings, screened=many, details=details)), replace(
        said,
        assessments=said.assessments + more,
        rejected=said.rejected + reasons,
        fault_impacts=said.fault_impacts + tuple(replace(each, candidate=name) for each in impacts for name in CONTENDERS),
        capacities=said.capacities | dict.fromkeys(CONTENDERS, said.capacities["hybrid"]),
    )


def write(tiny: TinyReport, folder: Path) -> Path:
    """Write the page into `folder`: every cell of the notebook, in this process."""
    found, said = crowded(tiny)
    notebook = nbformat.read(notebooks() / "recommendation.ipynb", as_version=4)
    names: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "answer", lambda *_, **__: found)
        patch.setattr(ratesim, "recommend", lambda _: said)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = [new_output("display_data", data=each) for each in _shown(cell.source, names)]
    nbformat.write(notebook, folder / "crowded.ipynb")
    page = folder / "crowded.html"
    page.write_text(render(folder / "crowded.ipynb", "crowded"), "utf-8")
    return page


def _shown(source: str, names: dict[str, object]) -> list[dict[str, object]]:
    """Execute a cell, and return what a front end would be given: what it displays, and its last expression."""
    shown: list[object] = []
    names["display"] = lambda *values: shown.extend(values)
    body = ast.parse(source).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "a cell", "exec"), names)
    if last is not None:
        shown.append(eval(compile(ast.Expression(last.value), "a cell", "eval"), names))
    return [_bundle(value) for value in shown if value is not None]


def _bundle(value: object) -> dict[str, object]:
    bundle = getattr(value, "_repr_mimebundle_", None)
    return bundle() if bundle else {"text/html": value._repr_html_()}
