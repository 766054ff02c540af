"""A study of two candidates, for tests of what is written about one."""

from __future__ import annotations

import pytest

from ratesim import Scenario
from ratesim.recommendation.investigate.study import Study, study


@pytest.fixture(scope="session")
def small_study() -> Study:
    asked = Scenario.of(
        {
            "workload": {"requests_per_second": 50, "keys": 5, "duration": 5},
            "limit": {"rate": "5/second"},
            "requirements": {"p99": "5ms", "max_over_admission": "1%"},
            "candidates": [{"name": "redis", "storage": "redis://h"}, {"name": "memory", "storage": "memory://"}],
            "replications": 2,
        }
    )
    return study(asked, live=False, processes=1)
