"""An executed notebook as one page.

A page without a chart has no script. With one it has a script made of `vendor/vega` and `chart.js`, which its policy names
by its hash. No other script runs, and none may evaluate text. The picture of a chart stays where no script runs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from pathlib import Path

from ratesim.formatting import escape_control_chars

__all__ = ["anchor", "chart_script", "heading", "json_in_script", "render"]

VEGA_LITE = "application/vnd.vegalite.v5+json"
HERE = Path(__file__).resolve().parent
PARTS = ("vega", "vega-lite", "vega-embed")  # in the order in which they need each other


def render(executed: Path, name: str) -> str:
    """Render an executed notebook as one HTML page without code or external resources; scripts only for a chart."""
    import nbformat
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name="report",
        extra_template_basedirs=[str(HERE / "templates")],
        exclude_anchor_links=True,
    )
    exporter.register_filter("anchor", anchor)
    exporter.register_filter("heading", heading)
    exporter.register_filter("json_in_script", json_in_script)
    notebook = nbformat.read(executed, as_version=4)  # type: ignore[no-untyped-call]
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    script = chart_script() if any(VEGA_LITE in output.get("data", ()) for output in outputs) else ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    resources = {
        "title": f"ratesim: {escape_control_chars(name)}",
        "script": f" script-src 'sha256-{digest}';" if script else "",
    }
    body, _ = exporter.from_notebook_node(notebook, resources=resources)
    if not script:
        return str(body)
    before, end, after = str(body).rpartition("</body>")  # the exporter parses what it returns, and would take its time
    return f"{before}<script>{script}</script>\n{end}{after}"


@cache
def chart_script() -> str:
    """Return the script that adds the charts to a page, with its license. It asks nobody for anything."""
    folder = HERE / "vendor" / "vega"
    license_ = "".join((folder / name).read_text("utf-8") for name in ("LICENSE", "LICENSE-3RD-PARTY.txt"))
    parts = [re.sub(r"\n//# sourceMappingURL=.*", "", (folder / f"{name}.min.js").read_text("utf-8")) for name in PARTS]
    start = (HERE / "templates" / "report" / "chart.js").read_text("utf-8")
    return "\n".join([f"/*! {', '.join(PARTS)}\n\n{license_}*/", *parts, start])


def json_in_script(value: object) -> str:
    """Return JSON that ends no script element and begins no comment in one: ASCII, without <, > and &."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def heading(markdown: str) -> str:
    """Return the title with which a cell begins a part of the page; empty if it begins none."""
    first = markdown.partition("\n")[0]
    return first.removeprefix("## ").replace("`", "").strip() if first.startswith("## ") else ""


def anchor(title: str) -> str:
    """By what a link on the page names the part with this title."""
    return "-".join(re.findall(r"[a-z0-9]+", title.lower()))
