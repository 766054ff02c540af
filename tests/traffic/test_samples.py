"""Logs that people really have: each is read right, or refused. None is silently wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from traffic.logs import LogError, read_log
from traffic.trace import Trace

LOGS = Path(__file__).parent / "logs"
EXPECTED: dict[str, dict[str, Any]] = json.loads((LOGS / "expected.json").read_text())
FURTHER: dict[str, dict[str, Any]] = {each["name"]: each for each in json.loads((LOGS / "further.json").read_text())}
REFUSED: dict[str, dict[str, Any]] = {each["name"]: each for each in json.loads((LOGS / "refused.json").read_text())}

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (Path(__file__).parents[2] / "docs" / "logs.md").read_text("utf-8").splitlines()
    if line.startswith("| `")
]
DOCUMENTED = {row[0].strip("`"): row for row in ROWS if len(row) == 6}
"""The table of docs/logs.md: what a log is, the options, requests, first key and form."""

OWN_KEY = {"kong.log": "203.0.113.7"}
"""First keys without options, where these name another one: the client, and not the consumer."""
NO_CLIENT = {"mixed_frac.jsonl": "its fields are time, k"}
"""What cannot be told without options, and what the refusal says."""


def check(path: Path, expected: dict[str, Any], **options: Any) -> Trace:
    trace = read_log(path, **options)
    assert len(trace) == expected["requests"]
    assert trace.keys[trace.key[0]] == expected["first_key"]
    np.testing.assert_allclose(trace.time[0], expected["first_time"], atol=1e-3)
    statuses = [] if trace.status is None else [int(status) for status in trace.status if status]
    assert statuses == expected["statuses"]
    provenance = trace.provenance
    assert provenance.lines == provenance.parsed + provenance.skipped + provenance.ignored
    assert provenance.parsed == expected["requests"]
    assert provenance.skipped == expected.get("skipped", 0)
    return trace


@pytest.mark.parametrize("name", EXPECTED)
def test_a_sample_is_read_right(name: str) -> None:
    expected = EXPECTED[name]
    options = expected.get("options", {})
    trace = check(LOGS / name, expected, **options)
    if name in NO_CLIENT:
        with pytest.raises(LogError, match=NO_CLIENT[name]):
            read_log(LOGS / name)
    elif options:
        trace = check(LOGS / name, {**expected, "first_key": OWN_KEY.get(name, expected["first_key"])})
        assert any(sentence.startswith("key: ") for sentence in trace.provenance.assumed)
    _, _, documented, requests, key, form = DOCUMENTED[name]
    assert documented == ("`--key k`" if name in NO_CLIENT else "")
    assert (int(requests), key) == (len(trace), trace.keys[trace.key[0]])
    assert form.split(" ")[0] == trace.provenance.format.split(" ")[0]


@pytest.mark.parametrize("name", FURTHER)
def test_a_log_of_another_program_is_read_right(name: str, tmp_path: Path) -> None:
    expected = FURTHER[name]
    log = tmp_path / "access.log"
    log.write_text("\n".join(expected["lines"]) + "\n", "utf-8")
    trace = check(log, expected, **expected["options"])
    assert trace.provenance.ignored == expected["ignored"]
    if expected["format"]:
        assert trace.provenance.format.split(",")[0].startswith(expected["format"])


@pytest.mark.parametrize("name", REFUSED)
def test_a_log_that_tells_no_requests_is_refused(name: str, tmp_path: Path) -> None:
    refused = REFUSED[name]
    log = tmp_path / "access.log"
    log.write_text("\n".join(refused["lines"]) + "\n")
    with pytest.raises(LogError, match=refused["says"]) as error:
        read_log(log, **refused["options"])
    assert "\n" not in str(error.value)


def test_a_form_that_was_given_may_be_of_the_line_inside_or_of_the_whole(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text('May 10 06:25:24 edge1 nginx: 203.0.113.7 1715322324.512 "GET /a" 200\n')
    for form in ('$remote_addr $msec "$request" $status', '$a $b $c $d nginx: $remote_addr $msec "$request" $status'):
        trace = read_log(log, log_format=form)
        assert (trace.keys, trace.time.tolist()) == (("203.0.113.7",), [1715322324.512])


def test_the_documentation_has_a_line_for_each_sample() -> None:
    assert set(DOCUMENTED) == set(EXPECTED)
