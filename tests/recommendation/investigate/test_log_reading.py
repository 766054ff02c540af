"""What was read of a log, and what was lost, in sentences."""

from __future__ import annotations

import numpy as np
import pytest

from ratesim.recommendation.investigate.log_reading import EXACT, StampGrain, limited, log_reading, stamp_grain
from ratesim.simulation.scenario.workload import WorkloadSpec
from traffic import Provenance, Trace


def origin(parsed: int, skipped: int, ignored: int = 0, **more: object) -> Provenance:
    lines = parsed + skipped + ignored
    return Provenance("/logs/a.log", lines, parsed, skipped, ignored=ignored, **more)  # type: ignore[arg-type]


def test_the_counts_and_the_format_are_one_sentence() -> None:
    read = log_reading(origin(990, 10, 5, format="w3c (100 % of the first lines)"), EXACT)
    assert read is not None
    assert read.note == (
        "a.log was read as w3c (100 % of the first lines), 1,005 lines: 990 requests, 10 lost, 5 no request by nature."
    )
    assert read.lines == read.requests + read.lost + read.ignored
    assert "private" not in repr(read)


def test_traffic_that_was_read_from_no_log_has_none() -> None:
    assert log_reading(Provenance("Workload()"), EXACT) is None


@pytest.mark.parametrize(("skipped", "said"), [(0, False), (10, False), (11, True), (500, True)])
def test_more_than_one_in_a_hundred_is_a_sentence_of_its_own(skipped: int, said: bool) -> None:
    read = log_reading(origin(1000 - skipped, skipped), EXACT)
    assert read is not None
    assert bool(read.lost_note) == said
    if said:
        assert read.lost_note.startswith(f"{skipped} of 1,000 lines of a.log (")


@pytest.mark.parametrize(
    ("grain", "spread", "said"),
    [
        (EXACT, True, ""),
        (StampGrain(1.0, 1.0), True, "All requests have stamps that are exact to 1 s, and were spread evenly within it, so"),
        (StampGrain(0.25, 60.0), True, "25 % of the requests have stamps that are exact to 60 s, and were spread"),
        (StampGrain(1.0, 1.0), False, "`spread = false` leaves them together"),
    ],
)
def test_coarse_stamps_are_said(grain: StampGrain, spread: bool, said: str) -> None:
    read = log_reading(origin(10, 0), grain, spread)
    assert read is not None
    assert said in read.stamps_note
    assert bool(said) == bool(read.stamps_note)


def test_the_grain_of_a_log_is_the_share_of_its_coarse_stamps_and_the_longest() -> None:
    trace = Trace([0.0, 1.5, 60.0, 60.0], [0] * 4, ["a"], grain=np.array([0.0, 0.001, 60.0, 1.0]))
    assert stamp_grain(trace) == StampGrain(0.5, 60.0)
    assert stamp_grain(Trace([0.5], [0], ["a"])) == EXACT


def test_the_field_of_a_key_that_was_guessed_is_said() -> None:
    workload = WorkloadSpec(log="a.log")
    guessed = ("key: client, field remote_addr (its name)", "time: field time_local (as Apache writes it)")
    read = log_reading(origin(10, 0, assumed=guessed), EXACT)
    assert read is not None
    assert read.assumed == ("Key: client, field remote_addr (its name).", "Time: field time_local (as Apache writes it).")
    assert limited(origin(10, 0, assumed=guessed), workload) == "each client (field remote_addr)"
    assert limited(origin(10, 0, assumed=guessed[1:]), workload) == "each key"
    assert limited(origin(10, 0), WorkloadSpec(log="a.log", key="none")) == "all requests together"
