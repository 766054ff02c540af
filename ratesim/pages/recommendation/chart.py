"""The interactive chart of a report: percentiles and the trade-off of all contenders, as a Vega-Lite specification."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ratesim.formatting import format_percent, format_seconds
from ratesim.pages.recommendation.pictures import percent
from ratesim.pages.style import COLORS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratesim.pages.run_figures import Curve
    from ratesim.recommendation.assess.assessment import Assessment, Interval

__all__ = ["chart_spec"]

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
WIDTH = 520
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 2, 1, 2, 1, 2])
TICKS = (0.5, 0.9, 0.99, 0.999, 0.9999)
TEXT = {"titleFontWeight": "normal", "labelFontSize": 12, "titleFontSize": 12}


def chart_spec(
    curves: Sequence[Curve],
    assessments: Sequence[Assessment],
    choice: str | None,
    allowed: tuple[float | None, float | None],
    description: str,
) -> dict[str, Any]:
    """Return the chart: a click on a name shows its contender alone, another click one more; hovering tells the figures.

    Every text from outside is a value of the data or of a scale, and none is part of an expression.

    Parameters
    ----------
    curves
        Latency by percentile of each contender.
    assessments
        The contenders, in the order of rank.
    choice
        The name of the choice.
    allowed
        The p99 in seconds and the over-admission that are required.
    description
        What a screen reader says.
    """
    points = [each for each in assessments if math.isfinite(each.p99.mean) and math.isfinite(each.over_admission.mean)]
    names = list(dict.fromkeys([*(each.candidate for each in points), *(each.name for each in curves)]))
    backends = {each.candidate: each.backend for each in assessments}
    dashes: dict[str, int] = {}
    dash = []
    for name in names:
        dashes[backends[name]] = dashes.get(backends[name], -1) + 1
        dash.append(DASHES[dashes[backends[name]] % len(DASHES)])
    legend = {"title": "contender (click to select)", "orient": "bottom", "columns": 3, "symbolType": "stroke"}
    legend |= {"symbolSize": 400, "symbolStrokeWidth": 2.5, "labelLimit": 190, **TEXT}
    colors = {"domain": names, "range": [COLORS[backends[name]] for name in names]}
    color = {"field": "contender", "type": "nominal", "scale": colors, "legend": legend}
    bold = {"test": "datum.chosen", "value": 3.5}
    seen = {"and": [{"param": "picked"}, "only === null || datum.contender === only"]}
    shown = {"condition": {"test": seen, "value": 1}, "value": 0.08}
    encoding: dict[str, Any] = {
        "x": {"field": "tail", "type": "quantitative", "scale": {"type": "log", "nice": False}, "axis": _percentile_axis()},
        "y": {
            "field": "ms",
            "type": "quantitative",
            "scale": {"type": "log", "nice": False, "padding": 12},
            "axis": _axis("latency of one decision, ms"),
        },
        "color": color,
    }
    line = {
        "mark": {"type": "line", "clip": True},
        "params": [
            {"name": "picked", "select": {"type": "point", "fields": ["contender"], "toggle": "true"}, "bind": "legend"}
        ],
        "encoding": {
            **encoding,
            "strokeDash": {
                "field": "contender",
                "type": "nominal",
                "scale": {"domain": names, "range": dash},
                "legend": legend,
            },
            "strokeWidth": {"condition": bold, "value": 1.7},
            "opacity": shown,
        },
    }
    near = {"name": "near", "select": {"type": "point", "on": "pointerover", "nearest": True, "clear": "pointerout"}}
    told = [_tip("contender"), _tip("answered"), _tip("within"), _tip("slower requests")]
    dots = {
        "mark": {"type": "point", "filled": True, "size": 70},
        "params": [near],
        "transform": [{"filter": seen}],
        "encoding": {
            **encoding,
            "opacity": {"condition": {"param": "near", "empty": False, "value": 1}, "value": 0},
            "tooltip": told,
        },
    }
    layers: list[dict[str, Any]] = [line, dots]
    p99, over = allowed
    if p99 is not None:
        layers.append(_rule("y", p99 * 1e3, f"p99 of {format_seconds(p99)} allowed"))
    return {
        "$schema": SCHEMA,
        "description": description,
        "background": "white",  # a page makes it transparent, and its texts as bright or dark as its own
        "config": {"view": {"stroke": None}, "font": "system-ui, sans-serif"},  # the picture has the alt text
        "params": [
            {
                "name": "only",
                "value": None,
                "bind": {
                    "input": "select",
                    "options": [None, *names],
                    "labels": ["all contenders", *names],
                    "name": "Show ",
                },
            }
        ],
        "vconcat": [
            {
                "title": _title("Latency by percentile"),
                "width": WIDTH,
                "height": 300,
                "data": {"name": "percentiles", "values": _percentiles(curves, choice)},
                "layer": layers,
            },
            {
                "title": _title("What the choice is between"),
                "width": WIDTH,
                "height": 200,
                "data": {"name": "contenders", "values": [_point(each, choice) for each in points]},
                "layer": _trade_off(color, shown, p99, over),
            },
        ],
    }


def _trade_off(color: dict[str, Any], shown: dict[str, Any], p99: float | None, over: float | None) -> list[dict[str, Any]]:
    scale = {"type": "symlog", "constant": 1e-3, "nice": False, "padding": 14}
    share = _axis("over-admission") | {
        "labelExpr": "format(datum.value * 100, '~g') + ' %'",
        "values": [0, 0.001, 0.01, 0.1, 1],
    }
    y = {"field": "over", "type": "quantitative", "scale": scale, "axis": share}
    x = {"type": "quantitative", "scale": {"type": "log", "nice": False, "padding": 24}, "axis": _axis("p99, ms")}
    tips = [_tip(name) for name in ("contender", "verdict", "p50", "p99", "over-admission", "a month")]
    size = {"condition": {"test": "datum.chosen", "value": 260}, "value": 90}
    shape = {"condition": {"test": "datum.chosen", "value": "diamond"}, "value": "circle"}
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "rule", "strokeWidth": 1.5},
            "encoding": {"x": {"field": "low", **x}, "x2": {"field": "high"}, "y": y, "color": color, "opacity": shown},
        },
        {
            "mark": {"type": "point", "filled": True, "strokeWidth": 0.6},
            "encoding": {
                "x": {"field": "ms", **x},
                "y": y,
                "color": color,
                "opacity": shown,
                "size": size,
                "shape": shape,
                "tooltip": tips,
            },
        },
    ]
    if p99 is not None:
        layers.append(_rule("x", p99 * 1e3, ""))
    if over is not None:
        layers.append(_rule("y", over, f"{format_percent(over)} allowed"))
    return layers


def _percentiles(curves: Sequence[Curve], choice: str | None) -> list[dict[str, Any]]:
    return [
        {
            "contender": each.name,
            "tail": 1 / (1 - share),
            "ms": latency * 1e3,
            "answered": percent(share),
            "within": format_seconds(latency),
            "slower requests": f"about {beyond:,}",
            "chosen": each.name == choice,
        }
        for each in curves
        for share, latency, beyond in zip(each.shares, each.latency, each.beyond, strict=True)
    ]


def _point(each: Assessment, choice: str | None) -> dict[str, Any]:
    verdict = "chosen" if each.candidate == choice else "passes" if each.passes else "fails" if each.fails else "too close"
    return {
        "contender": each.candidate,
        "ms": each.p99.mean * 1e3,
        "low": max(each.p99.low, each.p99.mean / 10) * 1e3,
        "high": _high(each.p99) * 1e3,
        "over": each.over_admission.mean,
        "verdict": verdict,
        "p50": each.p50.text(format_seconds),
        "p99": each.p99.text(format_seconds),
        "over-admission": each.over_admission.text(format_percent),
        "a month": "unknown" if math.isnan(each.cost) else f"{each.cost:,.2f}",
        "chosen": each.candidate == choice,
    }


def _high(value: Interval) -> float:
    """Return the upper end of an interval; of one that is open twice the mean."""
    return value.high if math.isfinite(value.high) else 2 * value.mean


def _axis(title: str) -> dict[str, Any]:
    return {"title": title, "tickCount": 4, "gridOpacity": 0.2, **TEXT}


def _percentile_axis() -> dict[str, Any]:
    label = "format((1 - 1 / datum.value) * 100, '.6~g') + ' %'"
    ticks = [1 / (1 - share) for share in TICKS]
    return _axis("share of the requests that are answered at least as fast") | {"values": ticks, "labelExpr": label}


def _title(text: str) -> dict[str, Any]:
    return {"text": text, "anchor": "start", "fontSize": 13}


def _tip(field: str) -> dict[str, str]:
    return {"field": field, "type": "nominal"}


def _rule(axis: str, at: float, label: str) -> dict[str, Any]:
    """Return a dashed line at a value of an axis, with a label at its left end."""
    where = {axis: {"datum": at}}
    line: dict[str, Any] = {
        "mark": {"type": "rule", "strokeDash": [4, 3]},
        "data": {"values": [{}]},
        "encoding": where,
    }
    if not label:
        return line
    text = {"type": "text", "align": "left", "baseline": "bottom", "dx": 4, "dy": -3, "fontStyle": "italic"}
    return {
        "data": {"values": [{}]},
        "layer": [
            {"mark": line["mark"], "encoding": where},
            {"mark": {**text, "text": label}, "encoding": {**where, "x": {"value": 0}}},
        ],
    }
