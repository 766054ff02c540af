"""What every notebook keeps to; what each says is tested by itself."""

from __future__ import annotations

import ast
import importlib
from dataclasses import fields
from pathlib import Path

import nbformat
import papermill
import pytest

from ratesim.notebook import NotebookError, notebooks, parameters_of
from ratesim.notebook.execute import _without
from ratesim.pages.log_traffic import LogFields

NAMES = sorted(path.stem for path in notebooks().glob("*.ipynb"))


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_thin_and_without_outputs(name: str) -> None:
    notebook = nbformat.read(notebooks() / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert notebook.cells[0].source.endswith("?")
    assert len(code) <= 12
    assert [cell for cell in code if "parameters" in cell.metadata.get("tags", [])] == [code[0]]
    for cell in code:
        assert cell is code[0] or len(cell.source.splitlines()) <= 12  # each parameter has a line
        assert cell.outputs == []
        assert cell.execution_count is None


@pytest.mark.parametrize("name", NAMES)
def test_every_name_that_a_parameters_cell_assigns_is_listed_with_a_comment(name: str) -> None:
    path = notebooks() / f"{name}.ipynb"
    source = next(c.source for c in nbformat.read(path, as_version=4).cells if "parameters" in c.metadata.get("tags", []))
    assigned = [
        node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]
    listed = parameters_of(path)
    assert [each.name for each in listed] == assigned
    assert all(each.comment for each in listed)
    assert list(papermill.inspect_notebook(str(path))) == assigned  # which sets them


@pytest.mark.parametrize("name", sorted({*NAMES} - {"history"}))  # which is of reports
def test_a_log_is_given_to_every_notebook_by_the_same_parameters(name: str) -> None:
    listed = {each.name: each for each in parameters_of(notebooks() / f"{name}.ipynb")}
    for field in fields(LogFields):
        assert listed[field.name].default == ""


@pytest.mark.parametrize("line", ["a, b = 1, 2", "a = b = 1", "a: int = 1", "import os", "a += 1"])
def test_a_line_that_sets_no_single_parameter_is_refused(tmp_path: Path, line: str) -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(f"c = 1\n{line}", metadata={"tags": ["parameters"]})]
    nbformat.write(notebook, tmp_path / "odd.ipynb")
    with pytest.raises(NotebookError, match=r"odd\.ipynb: .* sets no parameter; write one name and its default"):
        parameters_of(tmp_path / "odd.ipynb")


def test_what_a_notebook_is_executed_with_is_imported_as_if_a_module_were_not_installed() -> None:
    with _without("this"), pytest.raises(ImportError):
        importlib.import_module("this")
    with _without("ast"):
        assert importlib.import_module("ast") is ast, "one that is there stays"
    assert importlib.util.find_spec("this")
