"""What a template is made of: text, and variables."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Variable:
    """A field of a template, by its name."""

    name: str


Part = str | Variable


def header_name(text: str) -> str:
    """Spell a header's name, or any other, as nginx spells a part of a variable's name."""
    return re.sub(r"\W", "_", text, flags=re.ASCII).lower() or "unnamed"
