"""The JSON Schema of a scenario file, for editors: generated from the models, and published in docs/.

It is of draft 7, which editors of TOML read. What one key says of another is checked by `ratesim scenario --check` alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from ratesim.algorithms import names
from ratesim.simulation.network.links import PRESETS
from ratesim.simulation.scenario.fields import inner_model, unit_of
from ratesim.simulation.scenario.scenario import Scenario

__all__ = ["schema", "text"]


def schema() -> dict[str, Any]:
    """Return the JSON Schema. Times and shares are texts with units, or 0."""
    found = Scenario.model_json_schema(ref_template="#/definitions/{model}")
    definitions = found.pop("$defs")
    for model in _models(Scenario):
        table = found if model is Scenario else definitions[model.__name__]
        for name, field in model.model_fields.items():
            about, unit = table["properties"][name], unit_of(field)
            if unit is not None and isinstance(about.get("default"), int | float):
                about["default"] = unit.write(about["default"])
            if isinstance(about.get("default"), dict) or about.get("default", "") is None:
                del about["default"]
    definitions["Deployment"]["properties"]["network"]["enum"] = list(PRESETS)
    for model_name in ("LimitSpec", "Candidate"):
        definitions[model_name]["properties"]["algorithm"]["examples"] = names()
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A scenario file of ratesim",
        **_for_toml(found),
        "definitions": {name: _for_toml(part) for name, part in definitions.items()},
    }


def text() -> str:
    """Return the schema as it is published."""
    return json.dumps(schema(), indent=2) + "\n"


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        inner = inner_model(field)
        if inner is not None:
            yield from _models(inner)


def _for_toml(part: Any) -> Any:
    """Drop what a TOML file cannot hold (null) and what editors show twice (titles made from names)."""
    if isinstance(part, list):
        return [_for_toml(each) for each in part]
    if not isinstance(part, dict):
        return part
    found = {
        key: {name: _for_toml(each) for name, each in value.items()} if key == "properties" else _for_toml(value)
        for key, value in part.items()
        if key != "title"
    }
    if "anyOf" in found:
        kinds: list[Any] = []
        for each in found.pop("anyOf"):
            kinds += each["anyOf"] if set(each) == {"anyOf"} else [each]
        kinds = [each for each in kinds if each != {"type": "null"}]
        found = kinds[0] | found if len(kinds) == 1 else found | {"anyOf": kinds}
    if set(found) == {"$ref", "description"}:  # draft 7 ignores what stands beside a reference
        found = {"allOf": [{"$ref": found["$ref"]}], "description": found["description"]}
    return found
