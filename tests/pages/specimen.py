"""A notebook with one of everything that a page may hold, as if it had been executed: what no report shows all at once."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import nbformat
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from ratesim.pages.html import details, figure_html, html_table, small_print
from ratesim.pages.style import COLORS, STYLE

VERDICT = """<section class="verdict">
<p class="choice">Use redis: the least of the shared store per request of the 6 contenders that pass.</p>
<ul class="numbers">
<li><b>1.3 ms</b><span>p99 of a decision, 2 ms allowed</span></li>
<li><b>exactly 0</b><span>over-admission, 1 % allowed</span></li>
<li><b>87.5 µs</b><span>of the shared store per request</span></li>
</ul>
<div class="why"><div><p class="confidence">Fair confidence over 3 seeds: the p99 is 1.27 to 1.33 ms.</p></div>
<p class="caveat">The log covers four days; a busier week was not seen.</p></div>
</section>"""
NO_VERDICT = """<section class="verdict none">
<p class="choice">No candidate meets the requirements.</p>
<ul class="numbers"><li><b>2.28 ms</b><span>p99 of the nearest, 2 ms allowed</span></li></ul>
<div class="why"><div><p class="confidence">Clear over 3 seeds.</p></div>
<p class="caveat">Relaxed to 2.4 ms, hybrid write-through would pass.</p></div>
</section>"""

HEAD = ["candidate", "", "p50", "p99", "over-admission", "false denials", "L2 operations per request"]
HEAD += ["store's time per request", "bytes per key", *(f"{name} live / own simulation (ratio)" for name in ("p50", "p99"))]
STATES = {"hybrid eventual 100 ms": "chosen", "redis": "passes", "memory": "fails", "hybrid write-through": "too close"}
ROWS = [
    [
        f'<span class="dot" style="background:#009E73"></span>{name}',
        f'<span class="{state.replace(" ", "-")}">{state}</span>',
        *["0.877 ms<br><small>0.876 to 0.878 ms</small>"] * 2,
        "0.048 %<br><small>0.018 to 0.078 %</small>",
        *["exactly 0", "1.83", "0.159 ms", "684", "0.2 ms / 0.21 ms (1.05)", "machine disturbed"],
    ]
    for name, state in STATES.items()
]
CODE = '[storage]\nurl = "redis://localhost"  # ' + "a comment that is longer than any screen is wide, " * 4


def _figure() -> tuple[Figure, str]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.4), layout="constrained")
        axes = figure.subplots()
        axes.plot([1, 2, 3], [1, 4, 9], color=COLORS["postgres"])
        axes.set(title="Squares grow", xlabel="number", ylabel="its square")
    return figure, "The squares of 1, 2 and 3 are 1, 4 and 9."


def write(file: Path) -> None:
    """Write the notebook."""

    def shows(html: str):
        return new_code_cell(outputs=[new_output("display_data", data={"text/html": html})])

    table = html_table(HEAD, ROWS, caption="Every candidate, simulated").data
    long = html_table(["number", "why not"], [[f"{n}", "passes, but costs more"] for n in range(80)], label="All").data
    cells = [
        new_markdown_cell("# Does everything that a page may hold look right?"),
        shows(VERDICT),
        shows(
            '<p class="note">A limit that hardly ever binds.</p>' + NO_VERDICT + '<p class="verdict">In one paragraph.</p>'
        ),
        new_markdown_cell("## Why this one\n\nWith a [link](#why-not-the-others), *stress* and `code`."),
        shows(table + small_print("Simulated over 3 seeds, 95 % intervals in small print.")),
        shows("<h3>By number</h3>" + figure_html(_figure(), "One line.").data),
        new_markdown_cell("## Why not the others"),
        shows(details("All 80 that were not chosen", long)),
        shows(html_table(["", ""], [["Seeds", "1 to 3"], ["Machine", "2 cores"]], header=False, label="How").data),
        shows(f"<pre>{CODE}</pre>"),
        new_code_cell(outputs=[new_output("stream", text="said <b>by the way</b>\n")]),
        new_code_cell(outputs=[new_output("error", ename="ValueError", evalue="<no> more", traceback=[])]),
    ]
    nbformat.write(new_notebook(cells=cells), file)
