"""The last part of each page, "How to reproduce this": the command that makes the page again, and what made it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ratesim.notebook import find, parameters_of
from ratesim.pages.html import HTML, escape_html, html_table, small_print
from ratesim.simulation.cost_model.environment import environment

__all__ = ["repro_command", "reproduction", "reproduction_table", "seed_range"]


def repro_command(name: str, given: Mapping[str, Any]) -> str:
    """Write `ratesim notebook` with each parameter that differs from the notebook's default, quoted for a shell."""
    changed = [each.name for each in parameters_of(find(name)) if given.get(each.name, each.default) != each.default]
    return shlex.join(["ratesim", "notebook", name, *(part for key in changed for part in ("-p", key, _said(given[key])))])


def seed_range(first: int, count: int) -> str:
    """Name the seeds of `count` runs."""
    return str(first) if count == 1 else f"{first} to {first + count - 1}"


def reproduction(name: str, given: Mapping[str, Any], seeds: str, note: str, profile: str = "") -> HTML:
    """Show how a page is made again.

    Parameters
    ----------
    name
        The notebook.
    given
        Its parameters.
    seeds
        In words.
    note
        Which numbers are the same again.
    profile
        Where the measured costs come from; empty for a page that takes none.
    """
    return HTML(reproduction_table(repro_command(name, given), seeds, environment(), profile) + small_print(note))


def reproduction_table(command: str, seeds: str, made_by: Mapping[str, str], profile: str = "") -> str:
    """Show the command, the seeds, and the environment (as of `environment`) of a page."""
    versions = dict(made_by)
    machine, date = (versions.pop(name, "unknown") for name in ("machine", "date"))
    versions.pop("cores", None)  # which the machine's description has
    rows = [
        ("Command", command),
        ("Seeds", seeds),
        ("Machine", machine),
        ("Date", date),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("Profile", profile),
    ]
    shown = [
        [escape_html(what), f"<code>{escape_html(said)}</code>" if what == "Command" else escape_html(said)]
        for what, said in rows
        if said
    ]
    return html_table(["", ""], shown, header=False, label="How to reproduce this").data


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
