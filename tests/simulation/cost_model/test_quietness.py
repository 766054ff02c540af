"""What disturbed a piece of a measurement decides whether it counts, and never its result."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator, Collection

import numpy as np
import pytest

from ratesim.simulation.cost_model import quiet_rounds, quietness
from ratesim.simulation.cost_model.quiet_rounds import NoisyMachineError, Quiet, chosen, quiet_surveys
from ratesim.simulation.cost_model.quietness import Conditions, Observer, are_quiet, noise
from ratesim.simulation.cost_model.survey import Key, Load, Piece

QUIET = Conditions((150e-6, 160e-6), 0.0, 0.01)
SLOW = Conditions((150e-6, 220e-6), 0.0, 0.01)
FAST = Conditions((100e-6, 160e-6), 0.0, 0.01)
TAKEN = Conditions((150e-6, 160e-6), 0.0, 0.2)
STOLEN = Conditions((150e-6, 160e-6), 0.05, 0.0)
UNKNOWN = Conditions((150e-6, 160e-6), math.nan, math.nan)


@pytest.mark.parametrize(
    ("piece", "is_quiet"),
    [(QUIET, True), (SLOW, False), (FAST, False), (TAKEN, False), (STOLEN, False), (UNKNOWN, True)],
)
def test_a_piece_is_quiet_where_no_core_was_slower_than_usual_and_nobody_else_at_work(
    piece: Conditions, is_quiet: bool
) -> None:
    assert are_quiet([QUIET] * 6 + [piece]).tolist() == [True] * 6 + [is_quiet]


def test_the_usual_pace_is_the_median_of_the_pieces() -> None:
    assert are_quiet([SLOW, QUIET, QUIET, SLOW, QUIET]).tolist() == [False, True, True, False, True]
    assert are_quiet([SLOW] * 5).all(), "a machine that is always so is so"
    assert are_quiet([]).tolist() == []


def test_a_piece_is_noisier_the_further_its_pace_is_off_and_the_more_was_taken() -> None:
    amount = noise([QUIET, QUIET, QUIET, TAKEN, SLOW, UNKNOWN])
    assert amount[5] < amount[0] < amount[3] < amount[4]


KEYS = [Key("load", 1), Key("load", 4)]


def test_of_each_kind_the_quietest_pieces_are_chosen() -> None:
    keys = KEYS * 4
    conditions = [QUIET, TAKEN, SLOW, QUIET, UNKNOWN, QUIET, QUIET, TAKEN]
    assert chosen(keys, conditions, 2) == {KEYS[0]: [4, 0], KEYS[1]: [3, 5]}
    assert chosen(keys, [QUIET, TAKEN] * 4, 2) == {KEYS[0]: [0, 2], KEYS[1]: []}
    assert chosen(keys, [QUIET, TAKEN] * 4, 1, force=True) == {KEYS[0]: [0], KEYS[1]: [1]}


class FakeObserver(Observer):
    """Tells what it was given, in turn, and QUIET from then on."""

    def __init__(self, told: list[Conditions]) -> None:
        self.told = told

    def begin(self) -> None:
        pass

    def end(self) -> Conditions:
        return self.told.pop(0) if self.told else QUIET


async def measured(told: list[Conditions], seconds: float = 60.0, force: bool = False) -> tuple[Quiet, list[Key]]:
    taken: list[Key] = []

    async def take(turn: int, without: Collection[Key]) -> AsyncIterator[tuple[Key, Piece]]:
        for key in KEYS:
            if key not in without:
                taken.append(key)
                yield key, Load(turn, 1.0, 1.0, 1.0, 1.0, 1.0)

    return await quiet_surveys("redis", take, FakeObserver(told), rounds=3, seconds=seconds, force=force), taken


async def test_on_a_quiet_machine_there_are_as_many_rounds_as_were_asked_for() -> None:
    quiet, taken = await measured([])
    assert taken == KEYS * 3
    assert (quiet.pieces, quiet.disturbed) == (6, 0)
    assert [set(survey) for survey in quiet.surveys] == [set(KEYS)] * 3


async def test_only_the_pieces_that_were_disturbed_are_taken_again() -> None:
    quiet, taken = await measured([QUIET, TAKEN, QUIET, QUIET, QUIET, QUIET, TAKEN])
    assert taken == [*KEYS * 3, KEYS[1], KEYS[1]]
    assert (quiet.pieces, quiet.disturbed) == (8, 2)
    turns = [survey[KEYS[1]][0] for survey in quiet.surveys]  # type: ignore[index]
    assert turns == [1, 2, 4], "those of turns 0 and 3 were dropped"


async def test_what_was_measured_has_no_say_in_what_is_kept() -> None:
    results = np.random.default_rng(3).permutation(100).tolist()

    async def take(turn: int, without: Collection[Key]) -> AsyncIterator[tuple[Key, Piece]]:
        yield KEYS[0], Load(results[turn], 1.0, 1.0, 1.0, 1.0, 1.0)

    told = [QUIET, TAKEN, QUIET, QUIET]
    quiet = await quiet_surveys("redis", take, FakeObserver(told), rounds=3, seconds=60.0)
    assert [survey[KEYS[0]][0] for survey in quiet.surveys] == [results[0], *results[2:4]]  # type: ignore[index]


async def test_a_machine_that_is_disturbed_more_than_half_of_the_time_is_refused_with_a_remedy() -> None:
    with pytest.raises(NoisyMachineError, match=r"^5 of 6 pieces .* of redis .* disturbed: by other work .*--force$"):
        await measured([TAKEN] * 5, seconds=0.0)
    quiet, _ = await measured([TAKEN] * 5, seconds=0.0, force=True)
    assert (quiet.pieces, quiet.disturbed, len(quiet.surveys)) == (6, 5, 3)


async def test_a_kind_of_piece_that_was_never_quiet_is_refused_too() -> None:
    with pytest.raises(NoisyMachineError, match=r"^3 of 6 pieces"):
        await measured([QUIET, TAKEN] * 3, seconds=0.0)


def test_the_bound_of_the_profile_is_that_of_the_refusal() -> None:
    assert quiet_rounds.MOST_DISTURBED == 0.5


def test_a_piece_is_as_slow_as_the_slower_one_of_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    paces = iter([1e-4, 3e-4, 2e-4])
    monkeypatch.setattr(quietness, "_pace", lambda: next(paces))
    observer = Observer(None)
    assert [observer.end().pace, observer.end().pace] == [(3e-4,), (3e-4,)]


def test_an_observer_leaves_the_process_on_its_cores() -> None:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    observer = Observer([(core,) for core in cores] or None)
    seen = observer.end()
    assert len(seen.pace) == max(len(cores), 1)
    assert min(seen.pace) > 0.0
    assert not cores or sorted(os.sched_getaffinity(0)) == cores
    assert math.isnan(Observer(None, None).end().others), "the processes of a user's server are not known"
