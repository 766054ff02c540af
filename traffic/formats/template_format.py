"""Makes a named format of the lines of a configuration: `template_format`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from traffic.formats.base import Block, Format, Splitter
from traffic.formats.infer import fitting_splitter
from traffic.formats.template import Template


def template_format(
    name: str,
    title: str,
    example: str,
    source: str,
    *lines: str,
    roles: Mapping[str, tuple[str, ...]] | None = None,
) -> Format:
    """Make a named format of one or several templates.

    Parameters
    ----------
    name, title, example, source : str
        As in `Format`.
    *lines : str
        Templates, as `Template.parse` reads them. Of those that fit a line, the one with most variables cuts it.
    roles : Mapping[str, tuple[str, ...]], optional
        As in `Format`.
    """

    @cache
    def templates() -> list[Template]:
        return sorted(map(Template.parse, lines), key=lambda template: -len(template.names))

    def splitter(block: Block) -> Splitter | None:
        return fitting_splitter(block, templates())

    return Format(name, title, example, source, splitter, roles or {})
