"""Validation: the model beside real servers and beside queueing theory.

Use `validate.validate` for the ratios and the verdict, `live_replay.live_row` for one measured row, and
`queueing_theory.markdown` for the table of waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim._lazy import lazy_exports

if TYPE_CHECKING:
    from ratesim.simulation.validation.comparison import Observation, Validation
    from ratesim.simulation.validation.live_replay import live_row
    from ratesim.simulation.validation.queueing_theory import WaitComparison, compare_wait
    from ratesim.simulation.validation.verdict import Verdict

__all__ = ["Observation", "Validation", "Verdict", "WaitComparison", "compare_wait", "live_row"]

__getattr__ = lazy_exports(
    __name__,
    {
        "Observation": "ratesim.simulation.validation.comparison",
        "Validation": "ratesim.simulation.validation.comparison",
        "Verdict": "ratesim.simulation.validation.verdict",
        "live_row": "ratesim.simulation.validation.live_replay",
        "WaitComparison": "ratesim.simulation.validation.queueing_theory",
        "compare_wait": "ratesim.simulation.validation.queueing_theory",
    },
)
