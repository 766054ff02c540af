"""An executed notebook as one page."""

from __future__ import annotations

from pathlib import Path

__all__ = ["render"]


def render(executed: Path, name: str) -> str:
    """An executed notebook as one HTML page, without its code: no scripts, nothing that is loaded from elsewhere."""
    import nbformat
    from nbconvert import HTMLExporter

    from ratesim.formatting import harmless
    from ratesim.pages.html import anchor, heading

    exporter = HTMLExporter(
        template_name="report",
        extra_template_basedirs=[str(Path(__file__).resolve().parent.parent / "templates")],
        exclude_anchor_links=True,
    )
    exporter.register_filter("anchor", anchor)
    exporter.register_filter("heading", heading)
    notebook = nbformat.read(executed, as_version=4)  # type: ignore[no-untyped-call]
    body, _ = exporter.from_notebook_node(notebook, resources={"title": f"ratesim: {harmless(name)}"})
    return str(body)
