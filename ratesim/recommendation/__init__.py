"""Which storage to choose: by the evidence of simulated runs, or at once by a rule of thumb.

`assess` holds candidates against requirements, `investigate` makes the runs, `baseline` is the rule of thumb,
`configuration` writes the files that carry a choice out, and `decide` draws the conclusion from all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from ratesim.recommendation.baseline.rule_table import (
    DataRequirements,
    DeploymentType,
    PerformanceRequirements,
    RuleResult,
    recommend_by_rules,
)

if TYPE_CHECKING:
    from ratesim.recommendation.decide.recommendation import Recommendation
    from ratesim.recommendation.investigate.study import Study
    from ratesim.simulation.scenario.scenario import Scenario

__all__ = ["DataRequirements", "DeploymentType", "PerformanceRequirements", "recommend"]


@overload
def recommend(question: PerformanceRequirements, deployment: DeploymentType, data: DataRequirements) -> RuleResult: ...


@overload
def recommend(question: Study | Scenario) -> Recommendation: ...


def recommend(
    question: Study | Scenario | PerformanceRequirements,
    deployment: DeploymentType | None = None,
    data: DataRequirements | None = None,
) -> Recommendation | RuleResult:
    """Recommend a storage: by evidence for a study or a scenario, at once by rules for requirements.

    Parameters
    ----------
    question
        A finished `Study`; a `Scenario`, which is studied first, in simulation only; or `PerformanceRequirements`, for which
        the rule table answers without pandas or SimPy being imported.
    deployment, data
        What else the rule table asks. Ignored for a study or a scenario.

    Returns
    -------
    Recommendation or Ruled
        The second one for `PerformanceRequirements`.
    """
    if isinstance(question, PerformanceRequirements):
        return recommend_by_rules(question, deployment or DeploymentType.CLUSTERED, data or DataRequirements())
    from ratesim.recommendation.decide.recommendation import recommend_by_evidence
    from ratesim.simulation.scenario.scenario import Scenario

    if isinstance(question, Scenario):
        from ratesim.recommendation.investigate.study import study

        question = study(question, live=False)
    return recommend_by_evidence(question)
