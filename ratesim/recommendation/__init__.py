"""Which storage to choose: by the rules of the sketch, and by the evidence of runs."""

from __future__ import annotations

from ratesim.recommendation.decide.recommendation import Recommendation, recommend

__all__ = ["Recommendation", "recommend"]
