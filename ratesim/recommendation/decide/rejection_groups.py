"""Rejected candidates by family and reason: a hundred that were only screened, in a dozen rows with ranges of figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ratesim.formatting import Format, format_excess, format_money, format_percent, format_range, format_seconds
from ratesim.recommendation.assess.assessment import Assessment, Check
from ratesim.recommendation.assess.pareto import ORDERS, first_difference, parts
from ratesim.recommendation.assess.rejections import worst_miss
from ratesim.storage import StorageURL

if TYPE_CHECKING:
    from ratesim.recommendation.decide.recommendation import Recommendation
    from ratesim.recommendation.investigate.study import Study
    from ratesim.simulation.scenario.scenario import Preference

__all__ = ["RejectionGroup", "rejection_groups", "screened_groups"]

ROWS = 12


@dataclass(frozen=True)
class RejectionGroup:
    """Rejected candidates of one family that share the reason.

    Attributes
    ----------
    family
        Backend and policy: "hybrid, eventual, over Redis".
    candidates
        Their names.
    reason
        What they miss by most, or where they come behind the choice.
    figures
        The range of the figure that this is about: "p99 2.5 to 31 ms".
    """

    family: str
    candidates: tuple[str, ...]
    reason: str
    figures: str


def rejection_groups(
    rejected: Sequence[Assessment], best: Assessment | None, currency: str, prefer: Preference = "cost", rows: int = ROWS
) -> tuple[RejectionGroup, ...]:
    """Group rejected candidates by family and reason, the largest groups first.

    Families are as fine as `rows` allow: of a hybrid its policy and its store, the policy, or nothing more. If that is too
    many still, the smallest groups share the last row.

    Parameters
    ----------
    rejected
        Candidates that were run on the same part of the traffic.
    best
        The choice on that part; None where there is none.
    currency
        Of all costs.
    prefer
        The order in which `best` comes first.
    rows
        How many groups at most.
    """
    grouped: list[tuple[str, str, list[Assessment]]] = []
    for family in (_store_and_policy, _policy, _backend):
        grouped = _grouped(rejected, best, prefer, family)
        if len(grouped) <= rows:
            break
    shown = [_group(family, cause, members, currency) for family, cause, members in grouped[:rows]]
    if len(grouped) > rows:
        rest = [each for _, _, members in grouped[rows - 1 :] for each in members]
        shown[-1] = RejectionGroup("others", tuple(each.candidate for each in rest), "each for another reason", "")
    return tuple(shown)


def screened_groups(study: Study, recommendation: Recommendation) -> tuple[RejectionGroup, ...]:
    """Group the candidates that were only screened, by what they showed on the small part."""
    contenders = {each.candidate for each in recommendation.assessments}
    screened = {each.candidate: each for each in study.findings.screened.assessments}
    return rejection_groups(
        [each for name, each in screened.items() if name not in contenders],
        screened.get(recommendation.choice or ""),
        recommendation.currency,
        study.scenario.requirements.prefer,
    )


def _grouped(
    rejected: Iterable[Assessment], best: Assessment | None, prefer: Preference, family: Callable[[Assessment], str]
) -> list[tuple[str, str, list[Assessment]]]:
    found: dict[tuple[str, str], list[Assessment]] = {}
    for each in rejected:
        found.setdefault((family(each), _cause(each, best, prefer)), []).append(each)
    ordered = sorted(found.items(), key=lambda item: -len(item[1]))
    return [(family, cause, members) for (family, cause), members in ordered]


def _cause(each: Assessment, best: Assessment | None, prefer: Preference) -> str:
    """Return the requirement that is missed by most, or the figure in which the choice comes first."""
    if each.missed:
        worst = worst_miss(each)
        return "undecided" if worst.requirement == "p99" and each.failed_share >= 0.01 else worst.requirement
    by = None if best is None else first_difference(each, best, prefer)
    if by is None or best is None or by.value(each) < by.value(best):
        return "later"
    return f"by {by.name}"


def _group(family: str, cause: str, members: Sequence[Assessment], currency: str) -> RejectionGroup:
    missed = [worst_miss(each) for each in members if each.missed]
    if cause in _RANGES:
        figures = _RANGES[cause](members, currency)
    else:  # no number: "no persistence"
        figures = " or ".join(dict.fromkeys(check.measured for check in missed))
    return RejectionGroup(family, tuple(each.candidate for each in members), _reason(cause, missed), figures)


def _reason(cause: str, missed: Sequence[Check]) -> str:
    if not missed:
        worse = {f"by {each.name}": each.worse for order in ORDERS.values() for each in order}
        return f"passes, but {worse.get(cause, 'others come first')}"
    verdicts = {check.verdict for check in missed}
    verb = (
        "fails"
        if verdicts == {"fails"}
        else "is not shown to meet"
        if "fails" not in verdicts
        else "fails or is too close on"
    )
    required = f" ({missed[0].required})" if missed[0].required else ""
    return f"{verb} {missed[0].label}{required}"


def _ranged(name: str, value: Callable[[Assessment], float], unit: Format) -> Callable[[Sequence[Assessment], str], str]:
    def figures(members: Sequence[Assessment], _: str) -> str:
        return f"{name} {format_range(min(map(value, members)), max(map(value, members)), unit)}"

    return figures


def _costs(members: Sequence[Assessment], currency: str) -> str:
    ends = (format_money(end(each.cost for each in members), currency) for end in (min, max))
    return f"{' to '.join(dict.fromkeys(ends))} a month"


def _parts(members: Sequence[Assessment], _: str) -> str:
    return f"moving parts {' to '.join(dict.fromkeys(str(end(map(parts, members))) for end in (min, max)))}"


_P99 = _ranged("p99", lambda each: each.p99.mean, format_seconds)
_OVER = _ranged("over-admission", lambda each: each.over_admission.mean, partial(format_percent, digits=3))
_WINDOW = _ranged("busiest window", lambda each: each.worst_excess.mean, format_excess)
_RANGES = {
    "p99": _P99,
    "undecided": _ranged("without a decision", lambda each: each.failed_share, format_percent),
    "max_over_admission": _OVER,
    "max_worst_excess": _WINDOW,
    "max_false_denial": _ranged("false denials", lambda each: each.false_denial.mean, format_percent),
    "by cost": _costs,
    "by moving parts": _parts,
    "by p99": _P99,
    "by blast radius": _ranged("blast radius", lambda each: each.blast_radius or 0.0, format_percent),
    "by over-admission": _OVER,
    "by busiest window": _WINDOW,
    "later": _P99,
}


def _backend(each: Assessment) -> str:
    return each.backend


def _policy(each: Assessment) -> str:
    url = StorageURL.parse(each.storage)
    if url.hybrid is not None:
        return f"hybrid, {url.hybrid.consistency}"
    return f"{each.backend}, {each.routing}" if url.backend == "memory" and each.routing == "sticky" else each.backend


def _store_and_policy(each: Assessment) -> str:
    url = StorageURL.parse(each.storage)
    over = f" over {'PostgreSQL' if url.backend == 'postgres' else 'Redis'}" if url.hybrid is not None else ""
    kind = {"cluster": " cluster", "sentinel": " with Sentinels"}.get(each.topology, "")
    return f"{_policy(each)}{over}{kind}"
