"""`TenantSpec`: the table of a scenario that describes tenants with users who are alike."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Self

from pydantic import Field, model_validator

from ratesim.simulation.scenario.fields import Moment, Share, StrictModel
from traffic.quantiles import PROBABILITIES
from traffic.tenants import TenantGroup

__all__ = ["TenantSpec"]

Number = Annotated[float, Field(ge=0, le=1e12)]
Correlation = Annotated[float, Field(ge=-0.99, le=0.99)]
DISTRIBUTIONS = ("session_requests", "session_gap", "gaps", "pauses", "costs", "user_requests")


class TenantSpec(StrictModel):
    """Tenants who are alike: keys whose requests come in sessions, those of a user.

    A distribution is one value, or quantiles at the probabilities of `traffic.quantiles.PROBABILITIES`, ascending.
    """

    keys: Annotated[Share, Field(gt=0, le=1)] = 1.0
    """tenants: share of the keys that are such."""
    requests: Annotated[Share, Field(gt=0, le=1)] = 1.0
    """tenants: share of the requests that they make."""
    key_ratio: float = Field(default=1.0, ge=1, le=1e6)
    """Sessions of the most frequent of these keys over those of the least frequent one."""
    session_requests: tuple[Annotated[float, Field(ge=1, le=1e9)], ...] = (1.0,)
    """Requests of a session: one value, or quantiles."""
    session_gap: tuple[Moment, ...] = (0.0,)
    """Mean time between the requests of a session: one value, or quantiles."""
    gaps: tuple[Number, ...] = (1.0,)
    """Times between requests of a session over their mean: one value, or quantiles."""
    pauses: tuple[Number, ...] = (1.0,)
    """Times between sessions of a key over their mean, which `requests_per_second` sets: one value, or quantiles."""
    costs: tuple[Number, ...] = (1.0,)
    """Costs of a request: one value, or quantiles."""
    size_and_gap: Correlation = 0.0
    """Correlation of a session's requests and their mean gap, of normal scores; negative where long sessions are fast."""
    gap_memory: Correlation = 0.0
    """Correlation of a gap in a session and the one before."""
    pause_memory: Correlation = 0.0
    """Correlation of a pause and the one before."""
    cost_memory: Correlation = 0.0
    """Correlation of a cost and the one before."""

    users: float = Field(default=1.0, ge=1, le=1e6)
    """Users of a key; a sticky balancer keeps each on its node."""
    user_requests: tuple[Number, ...] = (1.0,)
    """Requests of a user over the mean of its key's: one value, or quantiles."""
    user_memory: Annotated[Share, Field(le=0.99)] = 0.0
    """How likely a request is of the user of the one before, beyond chance."""

    @model_validator(mode="after")
    def _ascend(self) -> Self:
        for name in DISTRIBUTIONS:
            values = getattr(self, name)
            if len(values) not in (1, len(PROBABILITIES)):
                raise ValueError(f"{name}: give one value, or {len(PROBABILITIES)} quantiles, not {len(values)}")
            if any(one > other for one, other in pairwise(values)):
                raise ValueError(f"{name}: quantiles must ascend")
        return self

    def group(self) -> TenantGroup:
        """Return the group as `traffic` has it."""
        return TenantGroup(**{name: getattr(self, name) for name in type(self).model_fields})

    @classmethod
    def of(cls, group: TenantGroup) -> TenantSpec:
        """Describe a group; what is as by default is left out."""
        given = {name: getattr(group, name) for name in cls.model_fields}
        return cls(**{name: value for name, value in given.items() if value != cls.model_fields[name].default})
