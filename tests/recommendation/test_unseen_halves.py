"""Unseen traffic: what is chosen on one half of a log still meets the requirements on the other half, and on other seeds."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from examples import sample

from ratesim import Scenario, recommend
from ratesim.recommendation.assess.assessment import assess
from ratesim.recommendation.investigate.study import study
from ratesim.simulation.experiments.sweep import sweep
from ratesim.simulation.scenario.scenario import Candidate

DATA = Path(__file__).parents[2] / "traffic" / "data"
NEAR = "hybrid+redis://localhost?consistency"
CANDIDATES = [
    {"name": "memory", "storage": "memory://", "routing": "round_robin"},
    {"name": "memory, sticky", "storage": "memory://", "routing": "sticky"},
    {"name": "redis", "storage": "redis://localhost"},
    {"name": "postgres", "storage": "postgresql://localhost"},
    {"name": "lease", "storage": f"{NEAR}=lease"},
    {"name": "eventual 100 ms", "storage": f"{NEAR}=eventual&sync_interval=0.1&l1_ttl=0.1"},
]
SITE: dict[str, Any] = {
    "log": "apache_access_10k.log.gz",
    "workload": {"key": "client"},
    "limit": {"rate": "10/minute"},
    "requirements": {"p99": "2ms", "max_over_admission": "1%", "persistence": "session"},
}
LLM: dict[str, Any] = {
    "log": "azure_llm_code_500.csv.gz",
    # One tenant's budget, asked for by many clients: else sticky routing would put all of it on one node.
    "workload": {"key": "none", "time": "TIMESTAMP", "cost": "ContextTokens+GeneratedTokens", "sessions": 50},
    "limit": {"rate": "100000/minute", "algorithm": "token_bucket"},
    # So few requests find everything asleep: 1.7 ms with Redis, give or take 0.4 for a p99 of three times 250 requests.
    "requirements": {"p99": "2.5ms", "max_over_admission": "1%"},
}
QUICK = {**SITE, "requirements": {"p99": "0.05ms", "max_over_admission": "1%"}}  # asks for another answer
QUESTIONS = {"access log": SITE, "access log, within 0.05 ms": QUICK, "LLM": LLM}


@cache
def halves(log: str) -> tuple[str, str, str]:
    """The head of a file, if it has one, and its lines before and after the middle, in order of time."""
    lines = gzip.decompress((DATA / log).read_bytes()).decode().splitlines(keepends=True)
    head = lines.pop(0) if log.endswith(".csv.gz") else ""
    if not head:
        lines.sort(key=stamp)
    return head, "".join(lines[: len(lines) // 2]), "".join(lines[len(lines) // 2 :])


def stamp(line: str) -> str:
    """All are of May 2015: the day, then the time of day."""
    day, _, time = line.partition("[")[2].partition("/")
    return day + time


def half(question: dict[str, Any], which: int, folder: Path) -> Scenario:
    head, *parts = halves(question["log"])
    file = folder / f"half-{which}{Path(question['log']).with_suffix('').suffix}"
    file.write_text(head + parts[which])
    return Scenario.of(
        {
            "workload": {"log": str(file), **question["workload"]},
            "limit": question["limit"],
            "requirements": question["requirements"],
            "deployment": {"nodes": 8},
            "candidates": CANDIDATES,
            "replications": 2,
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("seen", sample([0, 1], [0]))
def test_what_is_chosen_on_one_half_holds_on_the_other(name: str, seen: int, tmp_path: Path) -> None:
    question = QUESTIONS[name]
    chosen = recommend(study(half(question, seen, tmp_path), live=False, beyond=False, processes=1))
    assert chosen.choice is not None
    other = half(question, 1 - seen, tmp_path)
    candidate = next(Candidate.model_validate(each) for each in CANDIDATES if each["name"] == chosen.choice)
    rows = sweep(other, [candidate], seeds=range(101, 104), processes=1)
    (found,) = assess(rows, other.requirements, other.deployment.nodes)
    assert found.passes, found.missed


def test_the_halves_are_whole_and_follow_each_other() -> None:
    for question in (SITE, LLM):
        _, first, second = halves(question["log"])
        assert first
        assert second
    _, first, second = halves(SITE["log"])
    assert stamp(first.splitlines()[-1]) <= stamp(second.splitlines()[0])
