"""Templates of functions around a rule: a line `<refresh None now=at>` is replaced by the rule's own lines."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import Any

from ratesim.algorithms.codegen.inline import Layout, inline_rule

__all__ = ["render"]

_VERB = re.compile(r"^( *)<(\w+) (\w+) now=(\w+)>$", re.MULTILINE)


def render(template: str, rule: Any, layout: Layout, texts: Mapping[str, str]) -> str:
    """Fill the holes of a template.

    A line `<verb target now=variable>` becomes `target = rule.verb(s, p, ..., variable)`, written out for the layout. The
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
