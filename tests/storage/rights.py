"""The rights that docs/redis.md asks for, "Rights and versions"."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["KEYS", "rights"]

TEXT = (Path(__file__).resolve().parents[2] / "docs/redis.md").read_text(encoding="utf-8")
SECTION = TEXT.split("## Rights and versions\n")[1].split("\n## ")[0]
ALWAYS = re.search(r"^ACL SETUSER limiter on >password (~\S+) (.+)$", SECTION, re.MULTILINE)
ALSO = {for_what: rules for rules, for_what in re.findall(r"^\| `([^`]+)` \| (.+) \|$", SECTION, re.MULTILINE)}
assert ALWAYS is not None
KEYS = ALWAYS[1]


def rights(*purposes: str) -> list[str]:
    """Return the commands for every decision, and those for purposes that contain one of some words."""
    also = [rules.replace("\\", "") for for_what, rules in ALSO.items() if any(each in for_what for each in purposes)]
    assert len(also) >= len(set(purposes))
    return f"{ALWAYS and ALWAYS[2]} {' '.join(also)}".split()
