"""Where the measured costs of a recommendation come from: machine, date, age, and versions that are others by now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from ratesim.formatting import format_count

if TYPE_CHECKING:
    from ratesim.simulation.cost_model.profile import Profile

__all__ = ["ProfileOrigin", "profile_origin"]

COMPARED = ("ratesim", "redis", "hiredis", "psycopg")  # whose versions a measured cost depends on


@dataclass(frozen=True)
class ProfileOrigin:
    """The origin of a profile.

    Attributes
    ----------
    source
        "shipped", or the name of its file.
    machine, measured
        The machine, and the date.
    age_days
        Days from then until the study; None where one of the dates is not known.
    versions
        Of the software with which it was measured.
    other_versions
        Those of them that differ from the installed ones, as "redis 8.1.0, installed is 8.2.0".
    sentence
        All of that in words.
    """

    source: str
    machine: str
    measured: str
    age_days: int | None
    versions: dict[str, str]
    other_versions: tuple[str, ...]
    sentence: str


def profile_origin(profile: Profile, environment: Mapping[str, str]) -> ProfileOrigin:
    """Describe the origin of a profile.

    Parameters
    ----------
    profile
        Measured costs.
    environment
        Machine, date and installed versions of the study (`Study.environment`).
    """
    age = _days(profile.measured, environment.get("date", ""))
    others = tuple(
        f"{name} {profile.versions[name]}, installed is {environment[name]}"
        for name in COMPARED
        if name in profile.versions and name in environment and profile.versions[name] != environment[name]
    )
    sentence = profile.describe()
    if age:
        sentence += f" That was {format_count(age, 'day')} before this study."
    if environment.get("machine", profile.machine) != profile.machine:
        sentence += f" This machine is another ({environment['machine']})."
    if others:
        sentence += f" The profile was measured with {'; with '.join(others)}. `ratesim calibrate` measures again."
    return ProfileOrigin(
        source="shipped" if profile.source == "shipped" else Path(profile.source).name,
        machine=profile.machine,
        measured=profile.measured,
        age_days=age,
        versions=dict(profile.versions),
        other_versions=others,
        sentence=sentence,
    )


def _days(first: str, last: str) -> int | None:
    try:
        return (date.fromisoformat(last) - date.fromisoformat(first)).days
    except ValueError:  # a profile's date is free text
        return None
