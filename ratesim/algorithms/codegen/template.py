"""Templates of functions around a rule: where they say `<refresh None now=at>`, its lines are written out."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import Any

from ratesim.algorithms.codegen.inline import Layout, inline_rule

__all__ = ["render"]

_VERB = re.compile(r"^( *)<(\w+) (\w+) now=(\w+)>$", re.MULTILINE)


def render(template: str, rule: Any, layout: Layout, texts: Mapping[str, str]) -> str:
    """The template with its holes filled.

    A line `<verb target now=variable>` becomes `target = rule.verb(s, p, ..., variable)`, written out for the layout; the
    target None is for a function that returns nothing. `{name}` becomes texts[name].
    """

    def lines(match: re.Match[str]) -> str:
        indent, verb, target, argument = match.groups()
        written = inline_rule(rule, verb, layout, None if target == "None" else target, {"now": argument})
        return textwrap.indent("\n".join(written or ["pass"]), indent)

    source = _VERB.sub(lines, template)
    for name, text in texts.items():
        source = source.replace("{" + name + "}", text)
    return source
