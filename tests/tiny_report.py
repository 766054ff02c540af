"""A report of three candidates on a log of 300 lines, whose name and first line are hostile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ratesim.pages.recommendation.build import report
from ratesim.recommendation.decide.recommendation import Recommendation
from ratesim.simulation.scenario.scenario import Scenario

LINE = '10.0.0.{} - - [17/May/2015:10:05:{:02d} +0000] "GET /a HTTP/1.1" 200 1 "-" "x"\n'
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def tiny(folder: Path, **more) -> Scenario:
    log = folder / "access.log"
    if not log.exists():
        log.write_text(EVIL + "\n" + "".join(LINE.format(i % 3, i // 6) for i in range(300)))
    asked = {"name": EVIL, "replications": 2, "workload": {"log": str(log)}, "limit": {"rate": "20/minute"}}
    candidates = [
        {"name": "memory", "storage": "memory://"},
        {"name": "redis", "storage": "redis://localhost"},
        {"name": "hybrid", "storage": "hybrid+redis://localhost?consistency=eventual&sync_interval=0.1"},
    ]
    return Scenario.of({**asked, "candidates": candidates, "deployment": {"nodes": 2}, **more})


@dataclass(frozen=True)
class TinyReport:
    """Where the report lies, what it says, and what it told of its progress."""

    out: Path
    recommendation: Recommendation
    progress: list[tuple[int, int]]


def write(folder: Path) -> TinyReport:
    """Write the report below `folder`, into a directory that is not there yet."""
    seen: list[tuple[int, int]] = []
    out = folder / "new" / "out"
    said = report(tiny(folder), out, live=False, progress=lambda done, total, what: seen.append((done, total)))
    return TinyReport(out, said, seen)
