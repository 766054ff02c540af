"""The options that state a requirement, and the scenario that they make."""

from __future__ import annotations

from typing import Any

import pytest

from ratesim.cli.options import QuestionOptions, scenario_from_options
from ratesim.simulation.scenario.scenario import Requirements, Scenario


def asked(**options: Any) -> Scenario:
    return scenario_from_options(vars(QuestionOptions(scenario="quickstart", **options)))


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        ({"max_worst_excess": "30%"}, "max_worst_excess", 0.3),
        ({"max_over_admission": "any"}, "max_over_admission", None),
        ({"max_over_admission": "2%"}, "max_over_admission", 0.02),
        ({"keys": 12}, "key_count", 12),
        ({"prefer": "safety"}, "prefer", "safety"),
        ({"allow_routing_change": True}, "allow_routing_change", True),
        ({"allow_routing_change": False}, "allow_routing_change", False),
    ],
)
def test_an_option_is_the_requirement(options: dict[str, Any], field: str, value: Any) -> None:
    wants = asked(**options).requirements
    assert getattr(wants, field) == value
    assert wants.says_any_over_admission is (options == {"max_over_admission": "any"})


def test_a_routing_that_is_named_stays_unless_it_may_change() -> None:
    assert not asked(routing="random").may_change_routing
    assert asked(routing="random", allow_routing_change=True).may_change_routing
    recipe = scenario_from_options(vars(QuestionOptions(workload=["requests_per_second=2"], limit="1/second")))
    assert recipe.may_change_routing
    assert (recipe.requirements.key_count, recipe.requirements) == (None, Requirements())
