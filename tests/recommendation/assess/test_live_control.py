"""Live replays beside their own simulations, on made rows."""

from __future__ import annotations

import math

import msgspec
import pytest

from ratesim.recommendation.assess.live_control import decisive, disagreement_note, disagreements, stated_error
from ratesim.simulation.cost_model.profile import ModelError, Profile

ERRORS = (
    ModelError(utilization=0.1, p50=0.1, p95=0.15, p99=0.2, throughput=0.05),
    ModelError(utilization=0.6, p50=0.3, p95=0.4, p99=0.5, throughput=0.05),
)


def profile(errors: tuple[ModelError, ...] = ()) -> Profile:
    shipped = Profile.load()
    redis = msgspec.structs.replace(shipped.backends["redis"], errors=errors)
    return msgspec.structs.replace(shipped, backends={**shipped.backends, "redis": redis})


def row(p50: float = 1.0, p99: float = 1.0, **more: object) -> dict[str, object]:
    """Make a live row of redis, simulated at these multiples of what was measured."""
    figures = {"latency_p50": 6e-4, "latency_p99": 2e-3, "simulated_p50": 6e-4 * p50, "simulated_p99": 2e-3 * p99}
    return {"candidate": "redis", "store": "redis", "utilization": 0.05, "disturbed": "", "failure": "", **figures, **more}


def test_a_replay_that_its_own_simulation_explains_has_no_note():
    for p50, p99 in ((0.68, 0.51), (1.0, 1.0), (1.49, 1.99)):
        assert disagreements([row(p50=p50), row(p99=p99)], profile()) == ()
    assert disagreement_note([row()], profile()) == ""


@pytest.mark.parametrize("ratio", [0.66, 1.51, 3.0, 0.3])
def test_a_median_off_by_more_than_the_error_disagrees(ratio):
    (said,) = disagreements([row(p50=ratio)], profile())
    assert said.startswith("redis p50 0.6 ms live, ")
    assert said.endswith("simulated")


@pytest.mark.parametrize("ratio", [0.49, 2.01, 9.0, 0.01])
def test_a_tail_off_by_more_than_the_error_disagrees_whichever_is_longer(ratio):
    (said,) = disagreements([row(p99=ratio)], profile())
    assert said.startswith("redis p99 2 ms live, ")


def test_a_quantile_that_few_requests_leave_open_counts_with_its_interval():
    wide = {"latency_p99_low": 1.5e-3, "latency_p99_high": 3e-3}  # around 2 ms
    assert disagreements([row(p99=ratio, **wide) for ratio in (0.38, 2.99)], profile()) == ()
    assert len(disagreements([row(p99=ratio, **wide) for ratio in (0.37, 3.01)], profile())) == 2


def test_the_note_is_one_sentence_with_each_figure_that_disagrees():
    note = disagreement_note([row(), row(p50=0.5, p99=0.4)], profile())
    assert note == (
        "Live replays and their own simulations disagree by more than the model's error: "
        "redis p50 0.6 ms live, 0.3 ms simulated; redis p99 2 ms live, 0.8 ms simulated."
    )


def test_the_error_is_the_one_that_the_profile_states_for_the_utilization():
    assert stated_error(ERRORS, 0.05) == {"p50": 0.1, "p99": 0.2}
    assert stated_error(ERRORS, 0.1) == {"p50": 0.1, "p99": 0.2}
    assert stated_error(ERRORS, 0.3) == stated_error(ERRORS, 0.9) == {"p50": 0.3, "p99": 0.5}
    assert stated_error((), 0.05) == stated_error((), math.nan) == {"p50": 0.5, "p99": 1.0}
    assert disagreements([row(p50=1.2, utilization=0.3)], profile(ERRORS)) == ()
    assert len(disagreements([row(p50=1.12, utilization=0.05)], profile(ERRORS))) == 1


def test_a_disturbed_or_failed_replay_disagrees_with_nothing():
    assert disagreements([row(p50=9.0, disturbed="the loop was woken 4 ms late at the median")], profile()) == ()
    assert disagreements([row(p50=9.0, failure="valkey 9 was ended by SIGKILL")], profile()) == ()


def test_a_row_without_its_own_simulation_disagrees_with_nothing():
    assert disagreements([row(p50=math.nan, p99=math.nan)], profile()) == ()
    assert disagreements([{"candidate": "redis", "latency_p50": 6e-4, "latency_p99": 2e-3}], profile()) == ()


def test_of_memory_operations_are_compared_and_not_wake_ups():
    def memory(operation: float) -> dict[str, object]:
        figures = {"latency_p50": 5e-5, "latency_p99": 9e-5, "simulated_p50": 3e-6, "simulated_p99": 3e-6}
        return row(candidate="memory", store="memory", operation_p50=operation, simulated_operation=3e-6, **figures)

    assert disagreements([memory(3.2e-6)], profile()) == ()
    assert disagreements([memory(9e-6)], profile()) == ()  # three times as much, of what nobody feels
    (said,) = disagreements([memory(6e-5)], profile())
    assert said == "memory p50 of operations one at a time 60 µs live, 3 µs simulated"
    assert disagreements([memory(3.2e-6) | {"latency_p50": 2e-3, "latency_p99": 9e-3}], profile()) == ()


def test_a_replay_that_is_slow_beside_a_fast_simulation_is_compared_as_it_is():
    (said,) = disagreements([row(latency_p50=4e-3, simulated_p50=5e-6, simulated_operation=3e-6)], profile())
    assert said.startswith("redis p50 4 ms live, 5 µs simulated")


def test_only_what_could_move_the_choice_is_decisive():
    own, slower, faster = row(p99=0.1), row(p99=0.1, candidate="hybrid"), row(p99=9.0, candidate="postgres")
    assert decisive([own, slower, faster], ("redis", "in force")) == ([own, faster], [slower])
    assert decisive([own, slower, faster], ()) == ([own, slower, faster], [])
