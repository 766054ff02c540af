"""The catalogue: the candidates that compete unless a scenario names its own."""

from __future__ import annotations

from ratesim.simulation.scenario import Candidate, Scenario

__all__ = ["catalogue"]


def catalogue(scenario: Scenario) -> tuple[Candidate, ...]:
    """The candidates of a scenario: its own, or all that make sense for its deployment."""
    if scenario.candidates:
        return scenario.candidates
    single = scenario.deployment.nodes == 1
    found = [Candidate(name="memory", storage="memory://", routing="round_robin")]
    if not single:
        found.append(Candidate(name="memory, sticky", storage="memory://", routing="sticky"))
    found += [
        Candidate(name="redis", storage="redis://localhost"),
        Candidate(name="postgres", storage="postgresql://localhost"),
        Candidate(name="hybrid strong", storage="hybrid+redis://localhost?consistency=strong&write=write_through"),
    ]
    # A view lives as long as the interval: a key that comes back after a pause is read again, so no view is much older.
    for name, interval in (("10 ms", 0.01), ("100 ms", 0.1), ("1 s", 1.0), ("10 s", 10.0)):
        storage = (
            f"hybrid+redis://localhost?consistency=eventual&write=write_back&sync_interval={interval}&l1_ttl={interval}"
        )
        found.append(Candidate(name=f"hybrid eventual {name}", storage=storage))
    through = "hybrid+redis://localhost?consistency=eventual&write=write_through&l1_ttl=1.0"
    found.append(Candidate(name="hybrid write-through", storage=through))
    return tuple(found)
