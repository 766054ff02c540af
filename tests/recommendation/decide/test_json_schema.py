"""recommendation.json is what its published schema says, and the schema is what is written."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from ratesim import recommend
from ratesim.recommendation.decide.json_schema import text
from ratesim.recommendation.decide.recommendation import Recommendation
from ratesim.recommendation.investigate.study import Study

pytestmark = pytest.mark.slow  # a study is made first

PUBLISHED = Path(__file__).parents[3] / "docs" / "recommendation.schema.json"


@pytest.fixture(scope="module")
def made(small_study: Study) -> Recommendation:
    return recommend(small_study)


def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(PUBLISHED.read_text("utf-8")))


def test_the_published_schema_is_that_of_what_is_written() -> None:
    assert PUBLISHED.read_text("utf-8") == text(), "write ratesim.recommendation.decide.json_schema.text() to docs/"
    validator().check_schema(json.loads(text()))


@pytest.mark.slow
def test_a_recommendation_keeps_to_it_also_where_a_number_is_not_finite(made: Recommendation) -> None:
    validator().validate(json.loads(made.to_json()))
    endless = replace(made, assessments=(replace(made.assessments[0], bytes_per_key=math.nan), *made.assessments[1:]))
    validator().validate(json.loads(endless.to_json()))


def test_what_is_no_recommendation_does_not(made: Recommendation) -> None:
    told = json.loads(made.to_json())
    for wrong in (told | {"choice": 3}, {key: value for key, value in told.items() if key != "verdict"}):
        with pytest.raises(jsonschema.ValidationError):
            validator().validate(wrong)
