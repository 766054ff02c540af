"""Makes a named format of the fields by which it is known: `fields_format`."""

from __future__ import annotations

from collections.abc import Mapping

from traffic.formats.base import Block, Format, Splitter
from traffic.formats.filtered import Filtered
from traffic.formats.json_records import JSON


def fields_format(
    name: str,
    title: str,
    example: str,
    source: str,
    *fields: str,
    roles: Mapping[str, tuple[str, ...]] | None = None,
    only: Mapping[str, str] | None = None,
    of: Format = JSON,
) -> Format:
    """Make a named format of records whose fields have names.

    Parameters
    ----------
    name, title, example, source : str
        As in `Format`.
    *fields : str
        The fields by which it is known: all must be there. One of several is written with bars between.
    roles : Mapping[str, tuple[str, ...]], optional
        As in `Format`.
    only : Mapping[str, str], optional
        Records are ignored in which a field, by its name, does not match the pattern, or is missing.
    of : Format, optional
        How the records are written; JSON unless said.
    """
    alternatives = [field.split("|") for field in fields]

    def splitter(block: Block) -> Splitter | None:
        # Looking for the names is far cheaper than taking the lines apart.
        if not all(any(_spelled(name) in block.data for name in names) for names in alternatives):
            return None
        found = of.splitter(block)
        if found is None or any(not set(names) & set(found.names) for names in alternatives):
            return None
        return Filtered(found, only) if only else found

    return Format(name, title, example, source, splitter, roles or {})


def _spelled(path: str) -> bytes:
    return path.rpartition(".")[2].encode()
