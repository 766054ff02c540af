"""A handful of candidates under one traffic, and what they need and cost at any multiple of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ratesim.pages.scenario_parameters import scenario_from_parameters
from ratesim.recommendation.assess.capacity import Capacity, capacity, scaled
from ratesim.recommendation.assess.prices import Prices
from ratesim.simulation.analysis.alive_keys import alive_keys
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.experiments.sweep import sweep
from ratesim.simulation.scenario.candidates import default_candidates
from ratesim.simulation.scenario.scenario import Candidate, Scenario, ScenarioError

__all__ = ["CANDIDATES", "Costed", "cheapest", "costed", "second_server"]

_HYBRID = "hybrid+redis://localhost?consistency="

# The fewest moving parts first: who comes first wins where prices are the same.
CANDIDATES = (
    Candidate(name="memory", storage="memory://"),
    Candidate(name="redis", storage="redis://localhost"),
    Candidate(name="postgres", storage="postgresql://localhost"),
    Candidate(name="hybrid strong", storage=f"{_HYBRID}strong&write=write_through"),
    Candidate(name="hybrid lease", storage=f"{_HYBRID}lease"),
    Candidate(name="hybrid eventual 100 ms", storage=f"{_HYBRID}eventual&sync_interval=0.1&l1_ttl=0.1"),
    Candidate(name="hybrid eventual 1 s", storage=f"{_HYBRID}eventual&sync_interval=1.0&l1_ttl=1.0"),
)
MOST_KEYS = 10**12
SOON = 20_000  # requests of each candidate, which one process has simulated before another has begun


@dataclass(frozen=True)
class Costed:
    """The sized and priced candidates.

    Attributes
    ----------
    given
        The parameters, for reproducing.
    summary
        The summary of the trace.
    rows
        The rows of each candidate, one for each seed.
    load
        The requested load, in multiples of the traffic.
    """

    scenario: Scenario
    given: dict[str, Any]
    seed: int
    seeds: int
    load: float
    summary: dict[str, float]
    rows: dict[str, list[dict[Any, Any]]]
    prices: Prices
    profile: Profile

    @property
    def keys(self) -> int:
        """The number of keys whose state must fit."""
        return self.scenario.requirements.keys

    @property
    def peak(self) -> float:
        """Requests in the busiest second, at `load`."""
        return next(iter(self.at().values())).load.peak

    def at(self, load: float | None = None, keys: int | None = None, wrong: float | None = None) -> dict[str, Capacity]:
        """Size and price each candidate at another load.

        What is not given is as in the parameters.

        Parameters
        ----------
        load
            Multiple of the traffic.
        keys
            Number of keys.
        wrong
            Price of one request that was admitted and should not have been.
        """
        scenario, prices = self.scenario, self.prices
        if keys is not None:
            scenario = scenario.requiring(key_count=keys)
        if wrong is not None:
            prices = prices.model_copy(update={"over_admitted_request": wrong})
        summary = scaled(self.summary, self.load if load is None else load)
        return {name: capacity(rows, scenario, summary, prices, self.profile) for name, rows in self.rows.items()}

    def backend(self, candidate: str) -> str:
        """memory, redis, postgres or hybrid."""
        return str(self.rows[candidate][0]["backend"])

    def over_admission(self, candidate: str) -> float:
        """Return the mean over-admission over the seeds."""
        return fmean(row["over_admission"] for row in self.rows[candidate])


def costed(
    scenario: str = "quickstart",
    keys: int = 0,
    load: float = 1.0,
    prices: str = "",
    seed: int = 0,
    seeds: int = 1,
    **asked: Any,
) -> Costed:
    """Compute all that the notebook shows.

    An argument that is empty, or 0, is as the scenario says. Without `prices` the example prices are used.

    Parameters
    ----------
    keys
        Number of keys whose state must fit.
    prices
        A TOML file.
    asked
        Further parameters of `scenario_from_parameters`.

    Raises
    ------
    ScenarioError
        The scenario is invalid.
    PriceError
        The prices are invalid.
    """
    for name, value, least in (("keys", keys, 0), ("seeds", seeds, 1)):
        if not least <= value <= MOST_KEYS:
            raise ScenarioError(f"{name} {value}: must be at least {least}")
    if not (math.isfinite(load) and load > 0):
        raise ScenarioError(f"load {load:g}: must be a number above 0, such as 2 for twice the traffic")
    unit_prices = Prices.load(Path(prices) if prices else None)
    wanted = scenario_from_parameters(scenario, **asked)
    if keys:
        wanted = wanted.requiring(key_count=keys)
    first, profile = seed or wanted.seed, Profile.load()
    candidates = default_candidates(wanted) if wanted.candidates else CANDIDATES
    trace = wanted.trace(first)
    if wanted.requirements.key_count is None:
        wanted = wanted.requiring(key_count=alive_keys(wanted.limit.limit(), trace).room)
    processes = 1 if len(trace) * seeds <= SOON else None
    results = sweep(wanted, candidates, range(first, first + seeds), profile=profile, processes=processes)
    given = {"keys": keys, "load": load, "prices": prices, "seed": seed, "seeds": seeds, **asked}
    return Costed(
        scenario=wanted,
        given={"scenario": scenario, **{name: value for name, value in given.items() if value}},
        seed=first,
        seeds=seeds,
        load=load,
        summary=trace.summary(),
        rows={str(name): rows.to_dict("records") for name, rows in results.groupby("candidate", sort=False)},
        prices=unit_prices,
        profile=profile,
    )


def cheapest(found: dict[str, Capacity]) -> str:
    """Return the candidate with the least price to two significant digits.

    A smaller difference is noise. Of several the first is taken, and of those that share their state if there are any.
    """
    sharing = {name: each for name, each in found.items() if each.store != "none"} or found
    return min(sharing, key=lambda name: float(f"{sharing[name].price.per_month:.2g}"))


def second_server(found: Costed, candidate: str) -> int | None:
    """Return the number of keys above which a candidate needs another server for its memory; None if it never does."""
    few = 1
    needed = found.at(keys=few)[candidate].servers_by_memory
    many = MOST_KEYS
    if found.at(keys=many)[candidate].servers_by_memory <= needed:
        return None
    while many - few > 1:
        middle = (few + many) // 2
        if found.at(keys=middle)[candidate].servers_by_memory > needed:
            many = middle
        else:
            few = middle
    return many
