"""The JSON Schema of recommendation.json, generated from the types that are written into it, and published in docs/."""

from __future__ import annotations

import inspect
import json
from typing import Any, get_type_hints

import msgspec

from ratesim.recommendation.assess.capacity import Capacity
from ratesim.recommendation.baseline.claims import CheckedClaim
from ratesim.recommendation.decide.recommendation import SCHEMA_VERSION, Recommendation
from ratesim.recommendation.investigate.fault_impact import FaultImpact
from ratesim.recommendation.investigate.headroom import Headroom
from ratesim.recommendation.investigate.sensitivity import Flip

__all__ = ["schema", "text"]

LATER = {
    each.__name__: each for each in (Capacity, CheckedClaim, Flip, FaultImpact, Headroom)
}  # which recommendation.py does not import


def schema() -> dict[str, Any]:
    """Return the JSON Schema, draft 2020-12. A number that is not finite is written as null, so every number may be null."""
    hints = get_type_hints(Recommendation, localns=LATER)
    whole = msgspec.defstruct("Recommendation", [(name, hint) for name, hint in hints.items()])
    _, parts = msgspec.json.schema_components([whole])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"recommendation.json of ratesim, version {SCHEMA_VERSION}",
        "$ref": "#/$defs/Recommendation",
        "$defs": {name: _published(part) for name, part in parts.items()},
    }


def text() -> str:
    """Return the schema as it is published."""
    return json.dumps(schema(), indent=2).replace("#/components/schemas/", "#/$defs/") + "\n"


def _published(part: Any) -> Any:
    """Let every number be null, and unindent the docstrings, which msgspec does from 0.23 on."""
    if isinstance(part, list):
        return [_published(each) for each in part]
    if not isinstance(part, dict):
        return part
    found = {key: _published(value) for key, value in part.items()}
    if isinstance(about := found.get("description"), str):
        found["description"] = inspect.cleandoc(about)
    return found | {"type": ["number", "null"]} if found.get("type") == "number" else found
