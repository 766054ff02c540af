"""What an executed notebook shows."""

from __future__ import annotations

from pathlib import Path

import nbformat

from ratesim.pages.chart import VEGA_LITE


def html_of(notebook: Path) -> list[str]:
    """Return what each code cell shows, as HTML, once it is sure that it needs neither a kernel nor a script.

    Of a chart that is its picture.
    """
    outputs = [output for cell in nbformat.read(notebook, as_version=4).cells for output in cell.get("outputs", ())]
    shown = [output.data for output in outputs if "data" in output]
    charts = [data for data in shown if VEGA_LITE in data]
    assert all(set(data) == {VEGA_LITE, "image/svg+xml", "text/plain"} for data in charts)
    assert {kind for data in shown if data not in charts for kind in data} == {"text/html", "text/plain"}
    return [data["image/svg+xml"] if data in charts else data["text/html"] for data in shown]
