"""What an executed notebook shows."""

from __future__ import annotations

from pathlib import Path

import nbformat


def html_of(notebook: Path) -> list[str]:
    """Return what each code cell shows, as HTML, once it is sure that it needs neither a kernel nor a script."""
    outputs = [output for cell in nbformat.read(notebook, as_version=4).cells for output in cell.get("outputs", ())]
    assert {kind for output in outputs if "data" in output for kind in output.data} == {"text/html", "text/plain"}
    return [output.data["text/html"] for output in outputs if "data" in output]
