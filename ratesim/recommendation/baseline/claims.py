"""The claims of the rule-of-thumb baseline about each backend, beside the figures of a study.

Only claims that a run can measure are listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ratesim.recommendation.baseline.claim_checks import MEASURES, Figures, Holds

if TYPE_CHECKING:
    import pandas as pd

    from ratesim.simulation.cost_model.profile import Profile

__all__ = ["CLAIMS", "CheckedClaim", "Claim", "claims"]

Backend = Literal["memory", "redis", "postgres", "hybrid"]
Kind = Literal["advantage", "disadvantage"]


@dataclass(frozen=True)
class Claim:
    """One claim of the baseline.

    Attributes
    ----------
    backend
        The backend that the claim is about.
    kind
        Whether it is an advantage or a disadvantage.
    text
        The claim in words.
    measure
        The figure that tests it: a column of a study's results or of its live rows, or a field of the profile.
    """

    backend: Backend
    kind: Kind
    text: str
    measure: str


@dataclass(frozen=True)
class CheckedClaim:
    """A claim beside the figures of a study.

    Attributes
    ----------
    backend, kind, claim, measure
        As in `Claim`.
    measured
        The figures in words; "" if the study has none.
    holds
        Whether the claim holds.
    why
        How `holds` follows from the figures.
    """

    backend: Backend
    kind: Kind
    claim: str
    measure: str
    measured: str
    holds: Holds
    why: str


CLAIMS = (
    Claim("memory", "advantage", "a decision takes less than 0.01 ms, the least of all", "operation_p50"),
    Claim("memory", "advantage", "nothing travels over a network", "l2_operations_per_request"),
    Claim("memory", "disadvantage", "instances do not share it", "over_admission"),
    Claim("memory", "disadvantage", "takes memory with every active user", "bytes_per_key"),
    Claim("redis", "advantage", "instances share one state", "over_admission"),
    Claim("redis", "advantage", "scripts make decisions atomic", "false_denial"),
    Claim("redis", "disadvantage", "the network costs 0.1 to 1 ms", "operation_p50"),
    Claim("redis", "disadvantage", "takes memory on the server", "bytes_per_key"),
    Claim("postgres", "disadvantage", "slower: a decision takes 1 to 5 ms", "operation_p50"),
    Claim("postgres", "disadvantage", "uses more resources", "l2_busy_per_request"),
    Claim("postgres", "disadvantage", "may be what limits throughput", "concurrency"),
    Claim("hybrid", "advantage", "as fast as memory, as persistent as its store", "operation_p50"),
    Claim("hybrid", "advantage", "its consistency can be chosen", "over_admission by policy"),
    Claim("hybrid", "disadvantage", "its nodes may disagree", "over_admission"),
    Claim("hybrid", "disadvantage", "takes memory twice", "bytes_per_key"),
)


def claims(results: pd.DataFrame, live: pd.DataFrame, profile: Profile) -> tuple[CheckedClaim, ...]:
    """Check every claim.

    Parameters
    ----------
    results
        One row for each simulated run, as a study has them.
    live
        One row for each live replay. A backend in neither table is not measured.
    profile
        The measured costs.
    """
    figures = Figures(results, live, profile)
    return tuple(
        CheckedClaim(each.backend, each.kind, each.text, each.measure, *MEASURES[each.backend, each.measure](figures))
        for each in CLAIMS
    )
