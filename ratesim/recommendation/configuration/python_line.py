"""The Python lines that open the storage and decide once, metered as the alert rules need it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim.recommendation.configuration.alerts import thresholds
from ratesim.recommendation.configuration.escaping import has_secret, redact_url, to_comment

if TYPE_CHECKING:
    from ratesim.simulation.scenario.scenario import Scenario

__all__ = ["VARIABLE", "python_line"]

VARIABLE = "RATESIM_STORAGE_URL"  # of the environment, where a URL with a password comes from


def python_line(scenario: Scenario, storage: str, title: str = "") -> str:
    """Write a program that opens the storage and decides once.

    Every value is a literal. A URL with a password is not written: the program takes it from the environment.
    """
    limit, bounds = scenario.limit, thresholds(scenario, storage)
    arguments = [repr(limit.rate), f"algorithm={limit.algorithm!r}"]
    if limit.burst is not None:
        arguments.append(f"burst={limit.burst!r}")
    arguments += [f"**{limit.options!r}"] if limit.options else []
    secret = has_secret(storage)
    url = f"os.environ[{VARIABLE!r}]" if secret else repr(storage)
    shown = to_comment(f"{redact_url(storage)}, with its password") if secret else ""
    counted = scenario.workload.counted
    note = to_comment(f"The limit is{counted}: put the cost of the request here.")
    priced = f"{note}COST = 1.0\n" if counted else ""
    metered = "open_storage(URL), REGISTRY" + (f", thresholds={bounds!r}" if bounds else "")
    return f"""{to_comment(title)}import asyncio
{"import os" + chr(10) if secret else ""}
from prometheus_client import REGISTRY

from ratesim import Limit
from ratesim.storage import open_storage
from ratesim.storage.prometheus import InstrumentedStorage

{shown}URL = {url}
LIMIT = Limit.parse({", ".join(arguments)})
{priced}

async def main() -> None:
    async with InstrumentedStorage({metered}) as storage:
        decision = await storage.acquire("user:1", LIMIT{", COST" * bool(priced)})
        print("allowed" if decision.allowed else f"denied, again in {{decision.retry_after:.3g}} s")


asyncio.run(main())
"""
