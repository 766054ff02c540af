"""Code generation: the functions of a rule written out into one decision function, without calls.

`template.render` fills a template with the lines of a rule; `inline` and `return_to_assignment` make those lines, and `lua`
and `plpgsql` translate them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim._lazy import lazy_exports

if TYPE_CHECKING:
    from ratesim.algorithms.codegen.inline import Layout, inline_rule
    from ratesim.algorithms.codegen.lua import to_lua
    from ratesim.algorithms.codegen.plpgsql import Block, to_plpgsql
    from ratesim.algorithms.codegen.return_to_assignment import InlineError
    from ratesim.algorithms.codegen.template import render

__all__ = ["Block", "InlineError", "Layout", "inline_rule", "render", "to_lua", "to_plpgsql"]

__getattr__ = lazy_exports(
    __name__,
    {
        "Block": "ratesim.algorithms.codegen.plpgsql",
        "InlineError": "ratesim.algorithms.codegen.return_to_assignment",
        "Layout": "ratesim.algorithms.codegen.inline",
        "inline_rule": "ratesim.algorithms.codegen.inline",
        "render": "ratesim.algorithms.codegen.template",
        "to_lua": "ratesim.algorithms.codegen.lua",
        "to_plpgsql": "ratesim.algorithms.codegen.plpgsql",
    },
)
