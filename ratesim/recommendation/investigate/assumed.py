"""What is assumed where a scenario says nothing: the keys that must fit, the over-admission, and the routing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim.formatting import format_percent
from ratesim.simulation.scenario.scenario import OVER_ADMISSION

if TYPE_CHECKING:
    from ratesim.simulation.analysis.alive_keys import AliveKeys
    from ratesim.simulation.scenario.scenario import Scenario

__all__ = ["assumed", "with_defaults"]


def with_defaults(asked: Scenario, keys: AliveKeys | None) -> Scenario:
    """Return the scenario with the requirements that apply where it says nothing. keys: those of its traffic."""
    wants = asked.requirements
    if wants.key_count is None and keys is not None:
        asked = asked.requiring(key_count=keys.room)
    if wants.max_over_admission is None and not wants.says_any_over_admission:
        asked = asked.requiring(max_over_admission=OVER_ADMISSION)
    return asked


def assumed(asked: Scenario, keys: AliveKeys | None) -> tuple[str, ...]:
    """Say what was assumed, one sentence each. keys: those of the traffic; None where the scenario says how many fit."""
    wants, notes = asked.requirements, [] if keys is None else [keys.sentence]
    if wants.max_over_admission is None and not wants.says_any_over_admission:
        notes.append(
            f"Over-admission of at most {format_percent(OVER_ADMISSION)}, because nothing was required; "
            "`--max-over-admission` requires another share, or `any`."
        )
    return tuple(filter(None, (*notes, _routing(with_defaults(asked, keys)))))


def _routing(asked: Scenario) -> str:
    """Say whether another routing competes, where the scenario leaves that open; "" where it does not matter."""
    deployment = asked.deployment
    if asked.requirements.allow_routing_change is not None or asked.candidates or deployment.nodes == 1:
        return ""
    if asked.may_change_routing:
        return f"Routing {deployment.routing}, which may change, because none was named; `--routing` names it."
    if deployment.routing == "sticky":
        return ""
    if asked.is_of_one_key:
        return (
            f"The routing stays {deployment.routing}: all requests share one key, and nothing says how many clients that "
            f"is, so sticky routing would send all of them to one of {deployment.nodes} nodes; `workload.sessions` says "
            "how many."
        )
    return (
        f"The routing stays {deployment.routing}, because it was named, so sticky routing does not compete; "
        "`--allow-routing-change` lets it."
    )
