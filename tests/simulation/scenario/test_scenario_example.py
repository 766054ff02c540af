"""The annotated example has every key, each block of it can be put to use, and the schema takes what a scenario takes."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
from pydantic import BaseModel

from ratesim.simulation.scenario.example import BLOCKS, Block, block_text, example
from ratesim.simulation.scenario.fields import inner_model
from ratesim.simulation.scenario.json_schema import text
from ratesim.simulation.scenario.scenario import Scenario, ScenarioError, shipped_scenarios

DOCS = Path(__file__).parents[3] / "docs"
EXAMPLE = example()
SCHEMA = jsonschema.Draft7Validator(json.loads(text()))


def models(model: type[BaseModel] = Scenario) -> dict[str, type[BaseModel]]:
    found = {model.__name__: model}
    for field in model.model_fields.values():
        inner = inner_model(field)
        found |= models(inner) if inner is not None else {}
    return found


def used(*blocks: Block) -> str:
    """The tables in force of the example, with these in their place or added to them."""
    base: dict[str, Block] = {}
    for each in BLOCKS:
        if not each.is_array and "." not in each.table:
            base.setdefault(each.table, each)
    base |= {each.table: each for each in blocks if not each.is_array}
    return "\n".join(map(block_text, [*base.values(), *(each for each in blocks if each.is_array)]))


def test_every_field_has_its_line_and_its_remark() -> None:
    page = EXAMPLE
    for model in models().values():
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name} has no docstring"
            if inner_model(field) is None and name != "options":
                assert re.search(rf"^#?{name} = ", page, re.MULTILINE), f"{model.__name__}.{name} is not in the example"
    remarks = " ".join(line.removeprefix("# ") for line in page.splitlines() if line.startswith("# "))
    assert all(
        field.description in remarks
        for model in models().values()
        for name, field in model.model_fields.items()
        if inner_model(field) is None and name != "options" and field.description
    )
    assert {kind for block in BLOCKS if block.table == "faults" for kind in [block.values["kind"]]} == {
        "partition", "lossy", "slow", "crash", "failover", "reshard", "restart", "clock_skew",
    }  # fmt: skip


def test_the_example_is_a_scenario_as_it_stands_and_with_all_that_may_be_added() -> None:
    asked = Scenario.parse(EXAMPLE)
    assert asked.requirements.p99 == 0.002
    assert len(asked.trace()) > 1000
    assert Scenario.parse(used()).workload.zipf == 1.2
    SCHEMA.validate(tomllib.loads(used()))


@pytest.mark.parametrize("block", BLOCKS, ids=[f"{each.table}: {each.title}" for each in BLOCKS])
def test_each_block_can_be_put_to_use(block: Block) -> None:
    loop = next(each for each in BLOCKS if each.table == "workload" and "keys" in each.values and len(each.values) == 2)
    clients = next(each for each in BLOCKS if each.table == "workload.clients")
    tenants = next(each for each in BLOCKS if each.values.get("arrivals") == "tenants")
    group = next(each for each in BLOCKS if each.table == "workload.tenants")
    pairs = {loop.title: clients, clients.title: loop, tenants.title: group, group.title: tenants}
    others = [pairs[block.title]] if block.title in pairs else []
    document = used(*others, block)
    asked = Scenario.parse(document)
    SCHEMA.validate(tomllib.loads(document))
    SCHEMA.validate(tomllib.loads(asked.to_toml()))
    assert Scenario.parse(asked.to_toml()) == asked
    lines = [line.removeprefix("#") for line in EXAMPLE.splitlines() if not line.startswith("# ")]
    assert block_text(block) in "\n".join(lines) + "\n"


def test_what_is_published_is_what_is_generated() -> None:
    assert (DOCS / "scenario.toml").read_text("utf-8") == example(), "make docs"
    assert (DOCS / "scenario.schema.json").read_text("utf-8") == text(), "make docs"
    jsonschema.Draft7Validator.check_schema(json.loads(text()))


def test_what_ships_and_what_is_written_keeps_to_the_schema() -> None:
    for name, path in shipped_scenarios().items():
        SCHEMA.validate(tomllib.loads(path.read_text("utf-8")))
        SCHEMA.validate(tomllib.loads(Scenario.load(name).to_toml()))


@pytest.mark.parametrize(
    "lines",
    [
        "[requirements]\np99 = 2",
        "[requirements]\np99 = '2'",
        "[requirements]\nmax_over_admission = '2ms'",
        "[requirements]\nprefer = 'speed'",
        "[deployment]\nnode = 3",
        "[deployment]\nnetwork = 'mars'",
        "[[faults]]\nkind = 'crash'",
    ],
)
def test_an_editor_marks_what_is_wrong(lines: str) -> None:
    document = f"[workload]\nrequests_per_second = 5\n[limit]\nrate = '5/s'\n{lines}"
    assert list(SCHEMA.iter_errors(tomllib.loads(document)))
    with pytest.raises(ScenarioError):
        Scenario.parse(document)


def test_an_editor_shows_defaults_with_units_and_no_null() -> None:
    whole = json.loads(text())
    workload = whole["definitions"]["WorkloadSpec"]["properties"]
    assert (workload["duration"]["default"], workload["edge_before"]["default"]) == ("1 minute", "0%")
    assert "null" not in text()
    assert '"title": "' not in text().replace('"title": "A scenario file', "")
