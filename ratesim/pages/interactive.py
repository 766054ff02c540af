"""Interactive figures: a figure that is computed again when a reader chooses another value.

On a page, where no kernel runs, only the figure of the start values is shown.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ratesim.pages.html import HTML, escape_html
from ratesim.progress import STATIC

__all__ = ["Choice", "InteractiveFigure", "interactive"]


@dataclass(frozen=True)
class Choice:
    """One value that a reader can choose.

    Attributes
    ----------
    label
        The label of its slider.
    choices
        Its values, in order.
    start
        The value that is shown first. It is added to the choices if it is missing.
    said
        Formats a value.
    """

    label: str
    choices: Sequence[Any]
    start: Any
    said: Callable[[Any], str] = str

    @property
    def options(self) -> list[tuple[str, Any]]:
        """What can be chosen, as it reads."""
        values = [*self.choices] if self.start in self.choices else sorted([*self.choices, self.start])
        return [(self.said(value), value) for value in values]


class InteractiveFigure:
    """What a notebook shows: in a live front end controls and a picture, elsewhere the picture of the start values.

    The first picture is computed when it is made, so that a function that fails makes its cell fail.
    """

    def __init__(self, function: Callable[..., HTML], given: dict[str, Choice]) -> None:
        self._function = function
        self._choices = given
        self._seen: dict[tuple[Any, ...], HTML] = {}
        self.data = self._picture({name: choice.start for name, choice in given.items()}).data

    def _picture(self, values: dict[str, Any]) -> HTML:
        chosen = tuple(values.values())
        if chosen not in self._seen:
            self._seen[chosen] = self._function(**values)
        return self._seen[chosen]

    @cached_property
    def controls(self) -> dict[str, Any]:
        """A slider for each choice, by its name."""
        from ipywidgets import SelectionSlider

        style = {"description_width": "initial"}
        return {
            name: SelectionSlider(
                options=choice.options, value=choice.start, description=choice.label, continuous_update=False, style=style
            )
            for name, choice in self._choices.items()
        }

    @cached_property
    def widget(self) -> Any:
        """The controls above the picture, which is computed when one is let go."""
        import ipywidgets

        picture, state = ipywidgets.HTML(self.data), ipywidgets.HTML()

        def turned(change: Any) -> None:
            state.value = "computing"
            try:
                picture.value = self._picture({name: control.value for name, control in self.controls.items()}).data
            except Exception as error:
                # A front end shows nobody what a callback raises.
                state.value = escape_html(f"{type(error).__name__}: {error}")
                raise
            state.value = ""

        for control in self.controls.values():
            control.observe(turned, "value")
        return ipywidgets.VBox([ipywidgets.HBox([*self.controls.values(), state]), picture])

    def turn(self, **values: Any) -> HTML:
        """Choose values as a reader would, and return the figure that is shown then."""
        shown = self.widget.children[1]
        for name, value in values.items():
            self.controls[name].value = value
        return HTML(shown.value)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """Both ways to show it, of which a front end takes the one that it can; static, only the picture."""
        shown = {"text/html": self.data, "text/plain": repr(self)}
        return shown if os.environ.get(STATIC) else shown | self.widget._repr_mimebundle_()

    def __repr__(self) -> str:
        return f"HTML of {len(self.data):,} characters"


def interactive(function: Callable[..., HTML], **given: Choice) -> InteractiveFigure:
    """Make an interactive figure.

    Parameters
    ----------
    function
        Makes the figure from a value of each choice, by name. It should take a second, not a minute.
    """
    return InteractiveFigure(function, given)
