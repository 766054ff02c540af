"""Tables and verdict of made replays whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ratesim.simulation.validation.comparison import SATURATION, Figures, Observation, Validation

LOADS = (SATURATION, 0.1, 0.3)


def made(simulated: float = 1.0, number: int = 12, seed: int = 1, candidate: str = "redis") -> list[Observation]:
    """Make rounds in which every simulated figure is `simulated` times the live one, but for noise."""
    rng = np.random.default_rng(seed)
    found = []
    for turn in range(number):
        for load in LOADS:
            live = 1e-3 * np.exp(0.05 * rng.standard_normal())
            said = simulated * live * np.exp(0.03 * rng.standard_normal())
            throughput = 5000.0 * np.exp(0.01 * rng.standard_normal())
            found.append(
                Observation(
                    candidate,
                    load,
                    turn,
                    Figures(live, 2 * live, 3 * live, 5000.0, 500),
                    Figures(said, 2 * said, 3 * said, throughput, 500, load),
                    Figures(said, 2 * said, 3 * said, throughput, 500),
                    segments={"ask": 9e-5, "total": live},
                    parts={"total": said},
                )
            )
    return found


def disturbed(observations: list[Observation], factor: float, cause: str | None) -> list[Observation]:
    """Make the live latencies of every other round so much longer, as a neighbor does."""

    def slower(each: Observation) -> Observation:
        live = replace(each.live, p50=factor * each.live.p50, p95=factor * each.live.p95, p99=factor * each.live.p99)
        return replace(each, live=live, dropped=(cause,) if cause else ())

    return [slower(each) if each.round % 2 else each for each in observations]


def test_a_neighbor_in_half_of_the_rounds_changes_no_verdict_or_there_is_none():
    quiet = Validation(made(number=24))
    seen = Validation(disturbed(made(number=24), 2.0, "pace"))
    unseen = Validation(disturbed(made(number=24), 2.0, None))
    (verdict,) = quiet.verdicts()
    (kept,) = seen.verdicts()
    (everything,) = seen.verdicts(kept=False)
    (blind,) = unseen.verdicts()
    assert all(each.is_within for each in (*verdict.loads, *kept.loads))
    assert not any(each.is_known for each in (*everything.loads, *blind.loads))
    assert everything.errors == blind.errors == ()
    few = Validation(disturbed(made(number=8), 2.0, "pace"))  # four rounds are left
    assert few.verdicts()[0].errors == ()
    assert "cannot tell, 4 rounds kept" in few.markdown()
    assert "a larger `--budget`" in few.markdown()
    assert "a larger `--budget`" not in seen.markdown()


def test_a_wrong_model_is_wrong_also_beside_a_neighbor():
    (verdict,) = Validation(disturbed(made(0.6, number=24), 2.0, "pace")).verdicts()
    assert all(each.is_known and not each.is_within for each in verdict.loads)
    assert "too low" in verdict.describe()


def test_the_tables_say_what_was_kept_and_dropped_by_what():
    found = Validation(disturbed(made(), 2.0, "pace"))
    table = found.markdown()
    assert "| redis | 10 % | p50 | 6 | 1" in table
    assert "| candidate | load | busiest part, simulated | replays | kept | pace |" in table
    assert "| redis | 10 % | 10 % busy | 12 | 6 | 6 |" in table
    assert "| redis | 10 % | measured |  |  | 90 µs |" in table
    assert table.index("Verdict, by the kept rounds") < table.index("By all rounds")
    assert "partial" not in table
    assert "partial" in Validation(made(), partial=True).markdown()
    assert "- redis: not compared to the end: it died." in Validation(made(), {"redis": "it died."}).markdown()


def test_the_split_has_both_halves():
    rows = Validation(made()).split()
    assert [(load, figure) for _, load, figure, *_ in rows][:2] == [(SATURATION, "throughput"), (0.1, "p50")]
    assert all(fitted.rounds == other.rounds == 6 for *_, fitted, other in rows)
    worse = [replace(each, foreseen=replace(each.simulated, p50=0.5 * each.simulated.p50)) for each in made()]
    halves = Validation([one if one.round % 2 else other for one, other in zip(worse, made(), strict=True)]).split()
    fitted, other = halves[1][3:]
    assert (round(fitted.ratio, 1), round(other.ratio, 1)) == (1.0, 0.5)


def test_the_split_says_how_far_its_halves_are_apart():
    off = [
        replace(each, foreseen=replace(each.live, p95=each.live.p95 * (1.3 if each.round % 2 and each.load == 0.3 else 1.0)))
        for each in made()
    ]
    assert "differ by at most: redis 30 % (p95 at 30 %)." in Validation(off).markdown()


def test_admissions_may_differ_by_requests_that_overtook_each_other():
    off = [replace(each, simulated=replace(each.simulated, admitted=501)) for each in made()]
    assert "0 of 36 replays admit the same" in Validation(off).markdown()
    overtaken = [replace(each, swapped=0.002) for each in off]
    assert "36 of 36 replays admit the same" in Validation(overtaken).markdown()


def test_candidates_are_judged_one_by_one():
    verdicts = Validation([*made(), *made(0.5, candidate="postgres off")]).verdicts()
    assert [each.candidate for each in verdicts] == ["redis", "postgres off"]
    assert [each.loads[0].is_within for each in verdicts] == [True, False]
