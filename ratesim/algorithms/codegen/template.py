"""Templates of functions around a rule: a line `<refresh None now=at>` is replaced by the rule's own lines."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from ratesim.algorithms.codegen.inline import Layout, inline_rule

__all__ = ["render"]

_VERB = re.compile(r"^( *)<(\w+) (\w+) now=(\w+)>$", re.MULTILINE)


def render(
    template: str,
    rule: Any,
    layout: Layout,
    texts: Mapping[str, str],
    write: Callable[[str, str | None, str], list[str]] | None = None,
) -> str:
    """Fill the holes of a template.

    A line `<verb target now=variable>` becomes `target = rule.verb(s, p, ..., variable)`, written out for the layout. The
    target None is for a function that returns nothing. `{name}` becomes texts[name]. Another language than Python has a
    `write` of its own, of verb, target and variable.
    """

    def python(verb: str, target: str | None, argument: str) -> list[str]:
        return inline_rule(rule, verb, layout, target, {"now": argument}) or ["pass"]

    def lines(match: re.Match[str]) -> str:
        indent, verb, target, argument = match.groups()
        written = (write or python)(verb, None if target == "None" else target, argument)
        return textwrap.indent("\n".join(written), indent)

    source = _VERB.sub(lines, template)
    for name, text in texts.items():
        source = source.replace("{" + name + "}", text)
    return source
