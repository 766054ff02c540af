"""Which storage to choose: by the evidence of simulated runs, or at once by a rule of thumb.

`assess` holds candidates against requirements, `investigate` makes the runs, `baseline` is the rule of thumb,
`configuration` writes the files that carry a choice out, and `decide` draws the conclusion from all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, overload

from ratesim.recommendation.baseline.rule_table import (
    DataRequirements,
    DeploymentType,
    PerformanceRequirements,
    RuleResult,
    recommend_by_rules,
)

if TYPE_CHECKING:
    from ratesim.progress import Progress
    from ratesim.recommendation.assess.prices import Prices
    from ratesim.recommendation.decide.recommendation import Recommendation
    from ratesim.recommendation.investigate.study import Study
    from ratesim.simulation.cost_model.profile import Profile
    from ratesim.simulation.scenario.names import CandidateLike, ScenarioLike

__all__ = ["DataRequirements", "DeploymentType", "PerformanceRequirements", "recommend"]


@overload
def recommend(question: PerformanceRequirements, deployment: DeploymentType, data: DataRequirements) -> RuleResult: ...


@overload
def recommend(
    question: Study | ScenarioLike,
    *,
    candidates: Iterable[CandidateLike] | CandidateLike | None = None,
    current: CandidateLike | None = None,
    profile: Profile | None = None,
    prices: Prices | None = None,
    processes: int | None = None,
    progress: Progress | bool | None = None,
) -> Recommendation: ...


def recommend(
    question: Study | ScenarioLike | PerformanceRequirements,
    deployment: DeploymentType | None = None,
    data: DataRequirements | None = None,
    *,
    candidates: Iterable[CandidateLike] | CandidateLike | None = None,
    current: CandidateLike | None = None,
    profile: Profile | None = None,
    prices: Prices | None = None,
    processes: int | None = None,
    progress: Progress | bool | None = None,
) -> Recommendation | RuleResult:
    """Recommend a storage: by evidence for a study or a scenario, at once by rules for requirements.

    Parameters
    ----------
    question
        A finished `Study`; a `Scenario`, its name or its file, which is studied first, in simulation only; or
        `PerformanceRequirements`, for which the rule table answers without pandas or SimPy being imported.
    deployment, data
        What else the rule table asks; a study or a scenario says them itself, and TypeError is raised.
    candidates, current, profile, prices, processes, progress
        Of the study of a scenario; as for `study`.

    Returns
    -------
    Recommendation or RuleResult
        The second one for `PerformanceRequirements`.
    """
    if isinstance(question, PerformanceRequirements):
        return recommend_by_rules(question, deployment or DeploymentType.CLUSTERED, data or DataRequirements())
    if deployment is not None or data is not None:
        raise TypeError("deployment and data belong to PerformanceRequirements; name candidates as candidates=[...]")
    from ratesim.recommendation.decide.recommendation import recommend_by_evidence
    from ratesim.recommendation.investigate.study import Study, study

    if isinstance(question, Study):
        if any(each is not None for each in (candidates, current, profile, prices)):
            raise TypeError("candidates, current, profile and prices belong to a study, and this one is finished")
        return recommend_by_evidence(question)
    studied = study(
        question,
        candidates=candidates,
        current=current,
        profile=profile,
        prices=prices,
        live=False,
        processes=processes,
        progress=progress,
    )
    return recommend_by_evidence(studied)
