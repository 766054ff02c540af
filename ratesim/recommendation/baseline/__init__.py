"""The rule-of-thumb baseline: a rule table that never looks at traffic, and its claims beside measured figures.

Reports show it beside the evidence, so that a reader sees what measuring adds.
"""

from ratesim.recommendation.baseline.rule_table import recommend_by_rules

__all__ = ["recommend_by_rules"]
