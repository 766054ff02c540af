"""Templates that are told from the lines themselves: `infer_template`.

A line is cut at blanks, quotes, brackets and bars. Where most lines are cut alike, each column gets its name by its values
in all of them: a status is a status in every line, a time is a time. What cannot be told has a number for a name, and lines
that hold no time and no request are not guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from traffic.formats import line_values as values
from traffic.formats.base import Block, Fields, FormatMismatchError
from traffic.formats.column_names import name_columns
from traffic.formats.line_columns import columns_of_lines, columns_of_tokens, written
from traffic.formats.line_values import STATUSES
from traffic.formats.template import Template
from traffic.formats.template_dialects import NAMED
from traffic.formats.template_parts import Variable
from traffic.formats.template_splitter import REST, TemplateSplitter

SAMPLE = 200
TRIED = 16  # lines of the sample, evenly spread, of which one must fit
MAX_LINE = 8000
MOST = 0.95
FEW = 0.01  # of the lines, for which no further form is looked for
MAX_FORMS = 4

# The client behind a proxy, which some put in brackets or parentheses before the user.
ADDRESSES = re.compile(r"[\[(][0-9a-fA-F]++[.:][0-9a-fA-F.:, ]*+[\])]")
_PLAUSIBLE: dict[str, Callable[[str], object]] = {
    "status": STATUSES.__contains__,
    "remote_addr": values.is_client,
    "remote_logname": lambda text: not values.ADDRESS.fullmatch(text.strip("([,])")),
    "remote_user": lambda text: not (ADDRESSES.match(text) or any(map(values.ADDRESS.fullmatch, text.split()))),
    "time_local": lambda text: "]" not in text and re.search("[0-9]{1,2}:[0-9]{2}", text),
    "time_iso8601": values.ISO.fullmatch,
    "msec": values.EPOCH.fullmatch,
}


_COMPLETE = {"remote_addr", "request", "status"}


def infer_template(block: Block) -> Template | None:
    """Guess the form of the lines of a text log.

    Parameters
    ----------
    block : Block
        The first lines of the log.

    Returns
    -------
    Template or None
        None where no form fits at least half of the lines, or where they hold no time, or nothing of a request beside it.
    """
    first = sample(block)
    for name in ("combined", "common"):
        base = Template.parse(NAMED[name])
        if (fields := fit(first, [base])) is not None:
            return extended(first, base, fields)
    for columns in columns_of_lines(first.data.decode().splitlines()):
        if name_columns(columns, {}):
            try:
                template = Template.of(written(columns))
            except FormatMismatchError:  # nothing parts two of the fields
                continue
            if fit(first, [template]) is not None:
                return template
    return None


def infer_splitter(block: Block) -> TemplateSplitter | None:
    """Make the splitter of a text log from its first lines; None where their form cannot be told.

    Lines of further forms are read too if they name their time, client, request and status, as those of a server do that
    leaves fields out. Other lines of a program that writes requests are none.
    """
    first = sample(block)
    template = infer_template(first)
    if template is None:
        return None
    templates = [template]
    lines = first.data.splitlines(keepends=True)
    while len(templates) < MAX_FORMS:
        fits = TemplateSplitter(templates).cut(Block(b"".join(lines)), ())[2]
        others = [line for line, fit in zip(lines, fits.tolist(), strict=True) if fit < 0]
        further = infer_template(Block(b"".join(others))) if len(others) > FEW * len(lines) else None
        if further is None or not _COMPLETE.issubset(further.names):
            break
        templates.append(_apart(further, len(templates) + 1))
    return TemplateSplitter([*templates], guessed=True)


def _apart(template: Template, number: int) -> Template:
    """Give the fields that have numbers for names other ones than those of the first form, which they need not be."""
    parts: list[str | Variable] = []
    for part in template.parts:
        if isinstance(part, Variable) and part.name.startswith("field_"):
            part = Variable(f"{part.name}_of_form_{number}")
        parts.append(part)
    return Template(tuple(parts))


def sample(block: Block, lines: int = SAMPLE) -> Block:
    """Return the first lines of a block that are not blank."""
    first = block.data[: lines * MAX_LINE].split(b"\n", lines)[:-1]
    return Block(b"".join(line + b"\n" for line in first if line.strip() and len(line) <= MAX_LINE), block.line)


def fit(first: Block, templates: Sequence[Template]) -> Fields | None:
    """Cut lines with templates; None if more than half of the lines do not fit, or the values are not what names say."""
    splitter = TemplateSplitter(templates)
    fields = splitter.split(first, splitter.names)
    if not len(fields) or len(fields) < len(fields.skipped):
        return None
    texts = {name: column.drop_null().to_pylist() for name, column in fields.columns.items()}
    if any(_share(texts[name], plausible) < MOST for name, plausible in _PLAUSIBLE.items() if name in texts):
        return None
    if any(set(texts.get(name, ())) == {"-"} for name in ("remote_addr", "status")):
        return None
    return None if "status" in texts and _is_shifted(texts["status"], texts.get("body_bytes_sent", ())) else fields


def _is_shifted(status: Sequence[str], size: Sequence[str]) -> bool:
    """Tell whether a number stands before the status, so that the status is taken for the size."""
    codes = _share(size, STATUSES.__contains__) == 1 and len(size) > 0
    return codes and any(
        _share(status, known.__contains__) < _share(size, known.__contains__) for known in (STATUSES, values.USUAL)
    )


def _share(texts: Sequence[str], plausible: Callable[[str], object]) -> float:
    return sum(map(bool, map(plausible, texts))) / len(texts) if texts else 1.0


def extended(first: Block, base: Template, fields: Fields) -> Template:
    """Add names for what stands behind the template in most of its `fields`; else return the template as it is."""
    rest = fields.columns[REST].to_pylist()
    lines = [text for text in rest if text]
    columns = columns_of_tokens(lines) if 2 * len(lines) > len(rest) else None
    if columns is None:
        return base
    known = {
        name: [text or "" for text, more in zip(fields.columns[name].to_pylist(), rest, strict=True) if more]
        for name in base.names
    }
    name_columns(columns, known)
    template = Template.of([*base.parts, " ", *written(columns)])
    return base if fit(first, [template, base]) is None else template


def _few(block: Block) -> Block:
    lines = block.data.split(b"\n")[:-1]
    return Block(b"".join(line + b"\n" for line in lines[:: max(1, len(lines) // TRIED)]), block.line)


def fitting_splitter(block: Block, templates: Sequence[Template]) -> TemplateSplitter | None:
    """Make the splitter of the templates that fit, if half of the first lines do; else None.

    What stands behind the templates in most lines becomes fields of its own.
    """
    first = sample(block)
    splitter = TemplateSplitter(templates)
    # Where half of the lines fit, some of a few do; most formats are told from a log of another one by that.
    if not (splitter.cut(_few(first), ())[2] >= 0).any():
        return None
    fields = fit(first, templates)
    if fields is None:
        return None
    if 2 * fields.columns[REST].null_count >= len(fields):
        return splitter
    fits = splitter.cut(first, ())[2]
    most = templates[int(np.bincount(fits[fits >= 0]).argmax())]
    longer = extended(first, most, TemplateSplitter([most]).split(first, (*most.names, REST)))
    return splitter if longer is most else TemplateSplitter([longer, *templates], guessed=True)
