"""`Chart`: an interactive chart with the static picture that stands for it wherever no script runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["VEGA_LITE", "Chart"]

VEGA_LITE = "application/vnd.vegalite.v5+json"  # which JupyterLab draws by itself


@dataclass(frozen=True, repr=False)
class Chart:
    """A chart in a notebook.

    JupyterLab takes the first kind of the bundle that it can draw. `ratesim.notebook.render` shows the picture, and has a
    script add the chart.

    Attributes
    ----------
    spec
        A Vega-Lite specification. Its `usermeta` has the caption of the picture.
    picture
        The static picture, as SVG.
    """

    spec: dict[str, Any]
    picture: str

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        return {VEGA_LITE: self.spec, "image/svg+xml": self.picture, "text/plain": repr(self)}

    def __repr__(self) -> str:
        return str(self.spec["description"])
