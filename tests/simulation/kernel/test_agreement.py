"""Where the kernel is used it is checked: a kind of run on which the engines differ is left to SimPy, which says so."""

from __future__ import annotations

import numpy as np
import pytest

from ratesim import Scenario, run
from ratesim.simulation import runner
from ratesim.simulation.engine.context import RunContext
from ratesim.simulation.engine.playback import Playback
from ratesim.simulation.kernel import agreement
from ratesim.simulation.runner import NotCompiledError

SCENARIO = Scenario.of(
    {
        "workload": {"requests_per_second": 3000.0, "keys": 20, "duration": 0.5},
        "limit": {"rate": "10/second"},
        "deployment": {"nodes": 3},
    }
)
TRACE = SCENARIO.trace(1)


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What would be kept beside the compiled code."""
    kept: dict[str, str] = {}
    monkeypatch.setattr(agreement, "note", kept.__setitem__)
    monkeypatch.setattr(agreement, "noted", kept.get)
    return kept


def wrong(context: RunContext, *_: object) -> Playback:
    """Play a run in the kernel, and get one latency wrong by the least that there is."""
    played = sound(context)
    latency = played.replayed.outcome.latency
    latency[7] = np.nextafter(latency[7], 1.0)
    return played


sound = runner.play_compiled


def test_engines_that_agree_are_compared_once(notes: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(SCENARIO, "memory", trace=TRACE).engine == "compiled"
    assert [text.splitlines()[0] for text in notes.values()] == [""]
    monkeypatch.setattr(agreement, "play", None)  # SimPy is not asked again
    assert run(SCENARIO, "memory", trace=TRACE).engine == "compiled"


def test_engines_that_differ_leave_the_run_to_simpy(notes: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    right = run(SCENARIO, "memory", trace=TRACE, engine="simpy")
    monkeypatch.setattr(runner, "play_compiled", wrong)
    for _ in range(2):  # the second time by the note
        result = run(SCENARIO, "memory", trace=TRACE)
        assert result.engine == "simpy"
        assert result.engine_reason.startswith("the engines differ on the first 1,000 requests: outcome latency: of 7: ")
        assert np.array_equal(result.latency, right.latency)
    with pytest.raises(NotCompiledError, match="the engines differ"):
        run(SCENARIO, "memory", trace=TRACE, engine="compiled")
    assert len(notes) == 1


def test_other_code_is_another_kind() -> None:
    def kind(storage: str, **deployment: object) -> str:
        scenario = SCENARIO.model_copy(update={"deployment": SCENARIO.deployment.model_copy(update=deployment)})
        candidate = runner.find_candidate(scenario, storage)
        return agreement.kind_of(RunContext.of(scenario, candidate, agreement_profile, 1, TRACE))

    agreement_profile = runner.Profile.shipped()
    base = kind("memory://")
    assert kind("memory://?max_clock_skew=3", nodes=7) == base  # numbers choose no code
    others = {
        kind("redis://h"),
        kind("redis+cluster://h"),
        kind("hybrid+redis://h"),
        kind("hybrid+redis://h?write=write_around"),
    }
    assert len(others | {base, kind("memory://", routing="least_outstanding")}) == 6
