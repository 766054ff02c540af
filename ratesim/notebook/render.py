"""An executed notebook as one page."""

from __future__ import annotations

import re
from pathlib import Path

from ratesim.formatting import escape_control_chars

__all__ = ["anchor", "heading", "render"]


def render(executed: Path, name: str) -> str:
    """Render an executed notebook as one HTML page without code, scripts or external resources."""
    import nbformat
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name="report",
        extra_template_basedirs=[str(Path(__file__).resolve().parent / "templates")],
        exclude_anchor_links=True,
    )
    exporter.register_filter("anchor", anchor)
    exporter.register_filter("heading", heading)
    notebook = nbformat.read(executed, as_version=4)  # type: ignore[no-untyped-call]
    body, _ = exporter.from_notebook_node(notebook, resources={"title": f"ratesim: {escape_control_chars(name)}"})
    return str(body)


def heading(markdown: str) -> str:
    """Return the title with which a cell begins a part of the page; empty if it begins none."""
    first = markdown.partition("\n")[0]
    return first.removeprefix("## ").replace("`", "").strip() if first.startswith("## ") else ""


def anchor(title: str) -> str:
    """By what a link on the page names the part with this title."""
    return "-".join(re.findall(r"[a-z0-9]+", title.lower()))
