"""The interactive chart: the numbers of the table, texts from outside as data alone, and one script that is known."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import nbformat
import pytest
import vendor_vega
from made_contenders import made

from ratesim.formatting import format_seconds
from ratesim.notebook.render import chart_script, json_in_script, render
from ratesim.pages.chart import VEGA_LITE, Chart
from ratesim.pages.recommendation.picture_cells import percentiles

HOSTILE = "</script><script>document.title = 'taken over'</script><!--&amp;\u2028' + alert(1) + '"


def strings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Each string of a specification, with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from strings(each, f"{path}.{name}")
    elif isinstance(value, list):
        for each in value:
            yield from strings(each, path)


def fields(value: Any) -> Iterator[str]:
    return (each for path, each in strings(value) if path.endswith((".field", ".fields")))


def test_its_numbers_are_those_of_the_table():
    study, recommendation = made()
    spec = percentiles(study, recommendation).spec
    curves, points = (view["data"]["values"] for view in spec["vconcat"])
    for row, point in zip(recommendation.assessments, points, strict=True):
        assert point["ms"] == pytest.approx(1e3 * row.p99.mean)
        assert point["over"] == row.over_admission.mean
        assert format_seconds(row.p99.mean) in point["p99"]
        (at,) = [each for each in curves if each["contender"] == row.candidate and each["answered"] == "99 %"]
        assert at["ms"] == pytest.approx(1e3 * row.p99.mean)
        assert at["within"] == format_seconds(row.p99.mean)
        assert at["slower requests"] == "about 30"
    assert [each["contender"] for each in points if each["chosen"]] == [recommendation.choice]


def test_every_field_that_is_drawn_is_in_its_data_and_every_parameter_is_there():
    spec = percentiles(*made()).spec
    assert spec["$schema"] == "https://vega.github.io/schema/vega-lite/v5.json"
    json.dumps(spec, allow_nan=False)
    for view in spec["vconcat"]:
        assert set(fields(view["layer"])) <= set(view["data"]["values"][0])
    named = {each for path, each in strings(spec) if path.endswith(".params.name")}
    assert named == {"only", "picked", "near"}
    assert {each for path, each in strings(spec) if path.endswith(".param")} <= named


def test_a_text_from_outside_is_data_and_no_part_of_an_expression():
    plain, hostile = (percentiles(*made(choice=name)).spec for name in ("plain", HOSTILE))
    places = {path for path, each in strings(hostile) if HOSTILE in each}
    assert places == {
        ".description",
        ".params.bind.options",
        ".params.bind.labels",
        ".vconcat.data.values.contender",
        *(f".vconcat.layer.encoding.{channel}.scale.domain" for channel in ("color", "strokeDash")),
    }
    for kind in (".test", ".filter", ".and", ".labelExpr", ".expr"):
        said = [[each for path, each in strings(spec) if path.endswith(kind)] for spec in (plain, hostile)]
        assert said[0] == said[1]


def test_json_in_a_script_ends_no_element_and_is_the_same_value():
    text = json_in_script({HOSTILE: [HOSTILE, 1.5, None]})
    assert not re.search(r"[<>&\u2028\u2029]", text)
    assert json.loads(text) == {HOSTILE: [HOSTILE, 1.5, None]}


def notebook_of(chart: Chart, folder):
    notebook = nbformat.v4.new_notebook()
    shown = nbformat.v4.new_output("display_data", data=chart._repr_mimebundle_())
    notebook.cells = [nbformat.v4.new_code_cell(outputs=[shown])]
    nbformat.write(notebook, folder / "chart.ipynb")
    return folder / "chart.ipynb"


def test_jupyterlab_gets_the_chart_with_its_picture_for_who_cannot_draw_it():
    bundle = percentiles(*made())._repr_mimebundle_()
    assert set(bundle) == {VEGA_LITE, "image/svg+xml", "text/plain"}  # text/html would go before the chart there
    assert bundle["image/svg+xml"].startswith("<svg ")
    assert bundle["text/plain"] == bundle[VEGA_LITE]["description"]


def test_a_page_has_one_script_which_its_policy_names_by_its_hash(tmp_path):
    page = render(notebook_of(percentiles(*made(choice=HOSTILE)), tmp_path), "chart")
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", page, re.DOTALL)
    assert [attributes for attributes, _ in scripts] == [f' type="{VEGA_LITE}"', ""]
    assert json.loads(scripts[0][1])["usermeta"]["caption"]
    digest = base64.b64encode(hashlib.sha256(scripts[1][1].encode()).digest()).decode()
    policy = re.search(r'content="([^"]*)" http-equiv="Content-Security-Policy"', page)[1]
    assert f"; script-src 'sha256-{digest}';" in f"; {policy.replace('; ', '; ')}"
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe-eval" not in policy
    assert page.index("<svg ") < page.index("<script")  # the picture, whether or not a script runs
    assert len(page.encode()) < 1_100_000


def test_the_script_is_made_of_what_was_brought_with_its_licenses():
    files = {file.name for file in vendor_vega.TARGET.iterdir()}
    assert files == {*(f"{each.name}.min.js" for each in vendor_vega.PACKAGES), "LICENSE", "LICENSE-3RD-PARTY.txt"}
    script = chart_script()
    for package in vendor_vega.PACKAGES:
        text = (vendor_vega.TARGET / f"{package.name}.min.js").read_bytes()
        assert hashlib.sha256(text).hexdigest() == package.sha256
        assert text.decode().partition("\n//# sourceMappingURL")[0] in script
    assert "Redistribution and use in source and binary forms" in script
    assert "sourceMappingURL" not in script
    assert not re.search(r"</script|<!--", script, re.IGNORECASE)
    assert len(script.encode()) < 900_000


def test_another_package_than_the_expected_one_is_not_unpacked(tmp_path):
    (tmp_path / "vega.tgz").write_bytes(b"something else")
    with pytest.raises(SystemExit, match=r"vega 5\.\S+: its integrity is sha512-.*; nothing was written"):
        vendor_vega.unpack(tmp_path / "vega.tgz", vendor_vega.PACKAGES[0], tmp_path / "vendor")
    assert not (tmp_path / "vendor").exists()
