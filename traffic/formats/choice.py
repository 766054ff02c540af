"""`choose_format`: the format that makes most of the first lines of a source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from traffic.formats.base import EXCERPT_CHARACTERS, Block, Format, FormatMismatchError, Splitter
from traffic.formats.csv_records import refuse_headless
from traffic.formats.refused import refuse
from traffic.formats.template import Template
from traffic.formats.template_splitter import REST, TemplateSplitter
from traffic.provenance import printable

SNIFFED_LINES = 200
FEW_LINES = 10
# Of the first lines, at least this share must be records of the format.
LEAST = 0.5
CSV = "csv"
TEXT = "text"  # the format that is told from the lines


@dataclass(frozen=True, slots=True)
class Choice:
    """The format of a source.

    Attributes
    ----------
    name : str
        As in `--format`.
    splitter : Callable[[], Splitter]
        Makes a splitter of the source.
    share : float
        Share of the first lines that are records of it.
    roles : Mapping[str, tuple[str, ...]]
        Of the format.
    template : str
        What to write with --log-format to say the same, where the format was told from the lines; else "".
    """

    name: str
    splitter: Callable[[], Splitter]
    share: float
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    template: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({100 * self.share:.3g} % of the first lines)"


def choose_format(
    block: Block, formats: Mapping[str, Format], name: str | None = None, before: Choice | None = None
) -> Choice:
    """Return the format that cuts most of the first lines into records; of equally good ones the first.

    Parameters
    ----------
    block : Block
        The first lines of the source.
    formats : Mapping[str, Format]
        Those to be tried, in their order.
    name : str, optional
        The one that was asked for.
    before : Choice, optional
        That of the source before this one. Where it is of a template, and each line is just that, the others are tried with
        a few lines only: there may be thousands of short files.

    Raises
    ------
    FormatMismatchError
        None fits at least half of the lines.
    """
    refuse(block)
    sample = head(block)
    tried = [formats[name]] if name is not None else list(formats.values())
    if before is not None and _fits_wholly(before, sample):
        few = head(block, FEW_LINES)
        best = _best(few, few, tried)
        if best is not None and best.name == before.name:
            return replace(before, share=1.0)
    best = _best(sample, block, tried)
    if best is None:
        refuse_headless(sample)
    if best is None or best.share < LEAST:
        raise FormatMismatchError(_refusal(sample, best, name))
    return best


def _best(sample: Block, block: Block, formats: Iterable[Format]) -> Choice | None:
    """Return the format that cuts most lines of the sample, whose splitter is then made from the block."""
    best: Choice | None = None
    for each in formats:
        if best is not None and best.share == 1 and (each.name != TEXT or not _leaves_a_rest(best, sample)):
            continue
        if best is not None and best.share >= LEAST and each.name == CSV:  # any lines without a comma are one column
            continue
        splitter = each.splitter(sample)
        if splitter is None:
            continue
        share = _share(splitter, sample)
        # What is told from all columns goes before a form that does not know the last of them.
        if (
            best is None
            or share > best.share
            or (each.name == TEXT and share == best.share and _leaves_a_rest(best, sample))
        ):
            template = str(splitter.templates[0]) if isinstance(splitter, TemplateSplitter) and splitter.guessed else ""
            made = partial(_same, splitter) if isinstance(splitter, TemplateSplitter) else partial(_made, each, block)
            best = Choice(each.name, made, share, each.roles, template)
    return best


def choose_template(block: Block, template: Template) -> Choice:
    """Return the format of a template; raises FormatMismatchError if it fits fewer than half of the first lines."""
    sample = head(block)
    share = _share(template.splitter(), sample)
    if share < LEAST:
        problem = f"--log-format '{template}' fits {100 * share:.3g} % of its first lines"
        lines = sample.data.decode().split("\n")
        cut = template.splitter().split(sample, ())
        misfit = template.misfit(next(line for line in lines if line.strip() and line[:EXCERPT_CHARACTERS] in cut.skipped))
        raise FormatMismatchError(f"{problem}; of the first that does not: {misfit}. It begins: {begins(sample)}")
    return Choice("log_format", template.splitter, share)


def _fits_wholly(choice: Choice, sample: Block) -> bool:
    """Tell whether each line is one of a template that was not guessed, and nothing more."""
    splitter = choice.splitter()
    if choice.template or not isinstance(splitter, TemplateSplitter):
        return False
    return _share(splitter, sample) == 1 and not _leaves_a_rest(choice, sample)


def _same(splitter: TemplateSplitter) -> Splitter:
    return splitter  # it keeps nothing of the lines


def _made(format: Format, block: Block) -> Splitter:
    splitter = format.splitter(block)
    assert splitter is not None, format.name
    return splitter


def head(block: Block, lines: int = SNIFFED_LINES) -> Block:
    """Return the first lines of a block."""
    at = -1
    for _ in range(lines):
        at = block.data.find(b"\n", at + 1)
        if at < 0:
            return block
    return Block(block.data[: at + 1], block.line)


def _share(splitter: Splitter, sample: Block) -> float:
    """Share of the lines that are understood, those included that are known to be no requests."""
    fields = splitter.split(sample, ())
    held = splitter.close(()) if splitter.in_order else None
    parts = [fields] if held is None else [fields, held]
    records, ignored, lost = (sum(each) for each in zip(*((len(p), p.ignored, len(p.skipped)) for p in parts), strict=True))
    return (records + ignored) / (records + ignored + lost) if records else 0.0


def _leaves_a_rest(choice: Choice, sample: Block) -> bool:
    """Tell whether lines go on behind the template, so that another field may be the status."""
    splitter = choice.splitter()
    if not isinstance(splitter, TemplateSplitter):
        return False
    rest = splitter.split(sample, (REST,)).columns[REST]
    return bool(len(rest) > rest.null_count)


def _refusal(sample: Block, best: Choice | None, name: str | None) -> str:
    what = f"format {name} does not fit its first lines" if name else "no format that is known fits its first lines"
    if best is not None:
        what = f"{what}: {best.name} reads {100 * best.share:.3g} % of them"
    remedy = "paste the line of your server's configuration as --log-format '...', or see the formats with `ratesim formats`"
    return f"{what}; {remedy}. It begins: {begins(sample)}"


def begins(sample: Block) -> str:
    """Show the first two lines, safe to print."""
    lines = [line for line in sample.data.decode("utf-8", "replace").split("\n") if line.strip()]
    return " | ".join(printable(line) for line in lines[:2])
