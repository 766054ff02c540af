"""Rounds of a survey on a machine that others may use: pieces that were disturbed are dropped, and taken again."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from ratesim.errors import RatesimError
from ratesim.simulation.cost_model.profile import MOST_DISTURBED
from ratesim.simulation.cost_model.quietness import Conditions, Observer, are_quiet, noise
from ratesim.simulation.cost_model.survey import Key, Piece, Survey

__all__ = ["NoisyMachineError", "Quiet", "Take", "chosen", "quiet_surveys"]


class NoisyMachineError(RatesimError):
    """The machine was too busy with something else to measure on it."""

    exit_code: ClassVar[int] = 70


Take = Callable[[int, Collection[Key]], AsyncIterator[tuple[Key, Piece]]]


class Quiet(NamedTuple):
    """What is left of a measurement.

    Attributes
    ----------
    surveys : list[Survey]
        Rounds of the pieces that count.
    pieces, disturbed : int
        Pieces that were measured, and those of them that were disturbed.
    """

    surveys: list[Survey]
    pieces: int
    disturbed: int


async def quiet_surveys(
    what: str, take: Take, observer: Observer, *, rounds: int, seconds: float, force: bool = False
) -> Quiet:
    """Take rounds until each piece was measured so often on a quiet machine, or the time is over.

    Parameters
    ----------
    what : str
        Names what is measured in the error.
    take : Take
        Measures the pieces of a round of that number, but some; see `pieces`.
    observer : Observer
        Samples the conditions.
    rounds : int
        How often each piece is wanted, and the least number of rounds.
    seconds : float
        No round begins that would end after so long, as far as that is known, but the first ones.
    force : bool
        Whether a disturbed machine is measured all the same.

    Raises
    ------
    NoisyMachineError
        If more than MOST_DISTURBED of the pieces were disturbed, or all of one kind.
    """
    measured: list[tuple[Key, Piece, Conditions]] = []
    enough: set[Key] = set()
    began, turn, longest = time.monotonic(), 0, 0.0
    kinds: set[Key] = set()
    while turn < rounds or (enough != kinds and time.monotonic() - began + longest < seconds):
        start = time.monotonic()
        observer.begin()
        async for key, piece in take(turn, enough):
            measured.append((key, piece, observer.end()))
        longest, turn = max(longest, time.monotonic() - start), turn + 1
        kinds = {key for key, _, _ in measured}
        quiet = are_quiet([conditions for _, _, conditions in measured])
        keys = [key for (key, _, _), is_quiet in zip(measured, quiet, strict=True) if is_quiet]
        enough = {key for key in keys if keys.count(key) >= rounds} if turn >= rounds else set()
    return _kept(what, measured, rounds, force)


def _kept(what: str, measured: Sequence[tuple[Key, Piece, Conditions]], rounds: int, force: bool) -> Quiet:
    conditions = [each for _, _, each in measured]
    disturbed = int(np.count_nonzero(~are_quiet(conditions)))
    places = chosen([key for key, _, _ in measured], conditions, rounds, force)
    if not force and (disturbed > MOST_DISTURBED * len(measured) or not all(places.values())):
        raise NoisyMachineError(
            f"{disturbed} of {len(measured)} pieces of the measurement of {what} were disturbed: by other work on the "
            "machine, or by its changing pace; end that work and measure again, or take it all the same with --force"
        )
    surveys: list[Survey] = [{} for _ in range(max(map(len, places.values()), default=0))]
    for key, kept in places.items():
        for survey, place in zip(surveys, kept, strict=False):
            survey[key] = measured[place][1]
    return Quiet(surveys, len(measured), disturbed)


def chosen(keys: Sequence[Key], conditions: Sequence[Conditions], rounds: int, force: bool = False) -> dict[Key, list[int]]:
    """Choose the quietest pieces of each kind, at most `rounds`, by their conditions alone.

    Parameters
    ----------
    keys, conditions
        By piece.
    rounds : int
        Most pieces of a kind.
    force : bool
        Whether disturbed ones fill up what is missing.

    Returns
    -------
    dict[Key, list[int]]
        Places in `keys`; of a kind that was always disturbed none.
    """
    quiet, amount = are_quiet(conditions), noise(conditions)
    places: dict[Key, list[int]] = {key: [] for key in keys}
    for place in np.argsort(amount, kind="stable").tolist():
        if (quiet[place] or force) and len(places[keys[place]]) < rounds:
            places[keys[place]].append(place)
    return places
