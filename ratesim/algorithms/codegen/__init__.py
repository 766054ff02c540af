"""Code generation: the functions of a rule written out into one decision function, without calls.

`template.render` fills a template with the lines of a rule; `inline` and `return_to_assignment` make those lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim._lazy import lazy_exports

if TYPE_CHECKING:
    from ratesim.algorithms.codegen.inline import Layout, inline_rule
    from ratesim.algorithms.codegen.template import render

__all__ = ["Layout", "inline_rule", "render"]

__getattr__ = lazy_exports(
    __name__,
    {
        "Layout": "ratesim.algorithms.codegen.inline",
        "inline_rule": "ratesim.algorithms.codegen.inline",
        "render": "ratesim.algorithms.codegen.template",
    },
)
