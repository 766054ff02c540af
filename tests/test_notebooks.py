"""What every notebook keeps to; what each says is tested by itself."""

from __future__ import annotations

import nbformat
import pytest

from ratesim.notebook import notebooks, parameters_of


@pytest.mark.parametrize("name", sorted(path.stem for path in notebooks().glob("*.ipynb")))
def test_a_notebook_is_thin_and_without_outputs(name: str) -> None:
    notebook = nbformat.read(notebooks() / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert notebook.cells[0].source.endswith("?")
    assert len(code) <= 12
    assert [cell for cell in code if "parameters" in cell.metadata.get("tags", [])] == [code[0]]
    for cell in code:
        assert len(cell.source.splitlines()) <= 12
        assert cell.outputs == []
        assert cell.execution_count is None
    assert parameters_of(notebooks() / f"{name}.ipynb")
