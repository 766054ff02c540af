"""What a scenario and a candidate may be given as: themselves, a name, a file, or a storage URL.

Python and the command line use the same functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from pydantic import ValidationError

from ratesim.safe_text import shorten_repr
from ratesim.simulation.scenario.candidates import default_candidates
from ratesim.simulation.scenario.scenario import Candidate, Scenario, ScenarioError
from ratesim.storage import StorageURL
from ratesim.suggestion import unknown_name

__all__ = [
    "CandidateLike",
    "ScenarioLike",
    "find_candidate",
    "find_candidates",
    "find_scenario",
    "named_candidates",
    "with_candidates",
]

ScenarioLike: TypeAlias = "Scenario | str | PathLike[str]"
"""A scenario, the name of one that ships ("quickstart"), or a TOML file."""

CandidateLike: TypeAlias = "Candidate | str"
"""A candidate, its name in the scenario or the catalogue, or a storage URL."""

LONGEST = 80  # characters of a name


def find_scenario(given: ScenarioLike) -> Scenario:
    """Return the scenario itself, or load it by its name or file. Raises ScenarioError."""
    if isinstance(given, Scenario):
        return given
    if not isinstance(given, str | PathLike):
        raise ScenarioError(f"scenario {shorten_repr(given)}: give a Scenario, a name such as 'quickstart', or a TOML file")
    return Scenario.load(Path(given) if isinstance(given, PathLike) else given)


def named_candidates(scenario: ScenarioLike = "quickstart") -> dict[str, Candidate]:
    """Return every candidate that has a name: the scenario's own, and the whole catalogue.

    The catalogue is whole: with Sentinel and clusters, and with sticky routing, which compete only where they are asked for.
    """
    scenario = find_scenario(scenario).requiring(allow_routing_change=True)
    available = scenario.deployment.model_copy(update={"type": "high_availability", "routing": "round_robin"})
    catalogue = default_candidates(scenario.model_copy(update={"deployment": available, "candidates": ()}))
    return {each.name: each for each in (*scenario.candidates, *catalogue, *scenario.candidates)}


def find_candidate(scenario: Scenario, given: CandidateLike) -> Candidate:
    """Return the candidate itself, the one of that name, or one with that storage URL.

    Raises
    ------
    ScenarioError
        There is no such name; the line has the names that are close. Or the URL opens no candidate.
    ConfigurationError
        The URL is invalid.
    """
    if isinstance(given, Candidate):
        return given
    if not isinstance(given, str):
        raise ScenarioError(f"candidate {shorten_repr(given)}: give a Candidate, a name such as 'redis', or a storage URL")
    if "://" in given:
        return _of_url(given)
    known = named_candidates(scenario)
    if given in known:
        return known[given]
    remedy = "no such name; `ratesim run --list` lists them all, and a storage URL such as redis://localhost will do as well"
    raise ScenarioError(unknown_name("candidate", given, known, remedy))


def find_candidates(scenario: Scenario, given: Iterable[CandidateLike] | CandidateLike | None) -> list[Candidate] | None:
    """Return the candidates of a list of them; None for None. Those of URLs get names that no other one has.

    Raises what `find_candidate` raises.
    """
    if given is None:
        return None
    listed: Sequence[CandidateLike] = [given] if isinstance(given, Candidate | str) else list(given)
    if not listed:
        raise ScenarioError("candidates: the list is empty; leave it out for all")
    found = [find_candidate(scenario, each) for each in listed]
    taken = {each.name for each, text in zip(found, listed, strict=True) if not _is_url(text)}
    for place, (each, text) in enumerate(zip(found, listed, strict=True)):
        if _is_url(text):
            name, number = each.name, 1
            while name in taken:
                number += 1
                name = f"{each.name[: LONGEST - 6]} {number}"
            taken.add(name)
            found[place] = each.model_copy(update={"name": name})
    return found


def with_candidates(scenario: Scenario, given: Iterable[CandidateLike] | CandidateLike | None) -> Scenario:
    """Return the scenario with only these candidates; itself for None. Raises what `find_candidates` raises."""
    found = find_candidates(scenario, given)
    if found is None:
        return scenario
    data = scenario.model_dump(exclude_unset=True) | {"candidates": [each.model_dump(exclude_unset=True) for each in found]}
    return Scenario.of(data, scenario.name)


def _is_url(given: CandidateLike) -> bool:
    return isinstance(given, str) and "://" in given


def _of_url(url: str) -> Candidate:
    StorageURL.parse(url)
    try:
        return Candidate(name=_name(url), storage=url)
    except ValidationError as error:  # its text quotes the URL
        raise ScenarioError(f"candidate: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None


def _name(url: str) -> str:
    """Make the name of a URL: "redis, pool_size 20" for redis://localhost?pool_size=20."""
    address, _, query = url.partition("?")
    scheme, _, host = address.partition("://")
    options = [each.replace("=", " ", 1) for each in query.split("&") if each]
    text = ", ".join([" ".join(filter(None, [scheme, "" if host == "localhost" else host])), *options])
    plain = "".join(each if re.fullmatch(r"[A-Za-z0-9 ._,:+-]", each) else " " for each in text)
    return plain[:LONGEST].strip()
