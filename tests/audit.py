"""The audit of a page: each number in its prose stands, with its unit, in a table, in what a figure shows, or is given.

Prose is everything that is read as a sentence: paragraphs, lists, notes, captions, sentences in a table, and the title of a
figure. Facts are the short cells of tables, and what the alt text of a figure says after its title. A sentence that names a
row of a table is held against the facts of that row, and against those that are of no row.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser

UNIT = r"(?:%|µs|ms|s|min|hours?|days?|weeks?|bytes|kB|MB|GB)(?!\w)"
NUMBER = re.compile(
    r"exactly 0|(?<![\w.,#-])(?P<number>\d[\d,]*(?:\.\d+)?)(?![\d:]|[./]\d)"
    rf"(?:(?: to | and | or )(?=[\d.,]+ (?P<later>{UNIT}))| ?(?P<unit>{UNIT}))?"
)
ALWAYS = ("95 %", "99 %")  # of an interval, and of a percentile
DATE = re.compile(r"\d{4}-\d\d-\d\d")
SENTENCE = 7  # words: a cell with as many is prose
END = re.compile(r"(?<=[.;:!?])\s+(?=[A-Z(\d])|;\s+")


@dataclass(frozen=True)
class Number:
    """A number with its unit, as it is written: ("4.8", "%")."""

    digits: str
    unit: str = ""

    def is_told_by(self, fact: Number) -> bool:
        """Whether a fact writes the same number; a column may have its unit in the head, but a share is a share."""
        same_unit = self.unit == fact.unit or (self.unit != "%" and "" in (self.unit, fact.unit))
        return self.digits.rstrip(",") == fact.digits.rstrip(",") and same_unit


def numbers(text: str) -> list[Number]:
    """Return the numbers of a text in their order."""
    found = []
    for match in NUMBER.finditer(DATE.sub("", text)):
        if match["number"] is None:
            found.append(Number("exactly 0"))
        else:
            found.append(Number(match["number"].rstrip(","), match["unit"] or match["later"] or ""))
    return found


@dataclass
class Page:
    """What a page says: its sentences, and its facts by row; the row of a fact may have no name."""

    sentences: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)


class _Reader(HTMLParser):
    """Deals out the text of a page."""

    BLOCKS = ("p", "li", "figcaption", "summary", "caption", "h2", "h3", "div", "ul", "ol", "section", "figure", "details")
    UNHEARD = ("svg", "style", "script", "pre", "code")

    def __init__(self) -> None:
        super().__init__()
        self.page, self._text, self._muted = Page(), "", 0
        self._row: list[str] | None = None
        self._label = ""

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        if tag == "svg" and (alt := dict(attrs).get("aria-label")):
            title, _, shown = alt.partition(". ")
            self.page.sentences.append(title)
            self.page.facts += [("", clause) for clause in re.split(r";\s|\.\s", shown)]
        if tag in self.UNHEARD:
            self._muted += 1
        elif tag in self.BLOCKS:
            self._flush()
        elif tag == "table":
            self._flush()
            self._label = ""
        elif tag == "tr":
            self._row, self._text = [], ""
        elif tag in ("br", "small", "span"):
            self._text += " "

    def handle_endtag(self, tag: str) -> None:
        if tag in self.UNHEARD:
            self._muted -= 1
        elif tag in self.BLOCKS:
            self._flush()
        elif tag in ("td", "th") and self._row is not None:
            self._row.append(" ".join(self._text.split()))
            self._text = ""
        elif tag == "tr" and self._row is not None:
            self._end_row(self._row)
            self._row = None

    def handle_data(self, data: str) -> None:
        if not self._muted:
            self._text += data

    def _end_row(self, row: list[str]) -> None:
        self._label = row[0] or self._label
        for cell in row:
            if len(re.findall(r"[A-Za-z]{2,}", cell)) >= SENTENCE:
                self.page.sentences += [f"{self._label}: {each}" for each in END.split(cell)]
            else:
                self.page.facts.append((self._label, cell))

    def _flush(self) -> None:
        if self._row is None and (text := " ".join(self._text.split())):
            self.page.sentences += END.split(text)
        if self._row is None:
            self._text = ""


def read(shown: Iterable[str]) -> Page:
    """Read the outputs of a page's cells."""
    reader = _Reader()
    for html in shown:
        reader.feed(f"<div>{html}</div>")
    return reader.page


def unfounded(page: Page, given: Collection[str] = (), names: Collection[str] = ()) -> Iterator[tuple[str, Number]]:
    """Yield each number of a sentence that no fact tells, with its sentence.

    Parameters
    ----------
    page
        What the page says.
    given
        Parameters of the page, constants of its prose, and what a test has worked out: texts with numbers.
    names
        Of the rows that sentences speak of, such as candidates.
    """
    known = [number for text in given for number in numbers(text)]
    facts = [(_named(f"{label} {text}", names), numbers(text)) for label, text in page.facts]
    for sentence in page.sentences:
        subjects = _named(sentence, names)
        told = [number for whose, its in facts if not (subjects and whose) or subjects & whose for number in its]
        for number in numbers(_without(sentence, names)):
            if not any(number.is_told_by(each) for each in (*known, *told)):
                yield sentence, number


def audit(shown: Iterable[str], given: Collection[str] = (), names: Collection[str] = ()) -> float:
    """Assert that a page tells no number without a fact, and return the share of wrong numbers that this would notice.

    Each number of its prose is made wrong in turn, by its last digit.
    """
    page, given = read(shown), (*ALWAYS, *given)
    missing = [f"{number.digits} {number.unit}: {sentence}" for sentence, number in unfounded(page, given, names)]
    assert not missing, "\n".join(missing)
    wrong = [text for sentence in page.sentences for text in _misprints(sentence, names)]
    assert wrong, "a page without a number in its prose"
    noticed = sum(any(unfounded(Page([text], page.facts), given, names)) for text in wrong)
    return noticed / len(wrong)


def _misprints(sentence: str, names: Collection[str]) -> Iterator[str]:
    sentence = _without(sentence, names)
    for match in NUMBER.finditer(sentence):
        if match["number"] is None:
            yield f"{sentence[: match.start()]}0.001 %{sentence[match.end() :]}"
        else:
            end = match.start() + len(match["number"].rstrip(","))
            yield f"{sentence[: end - 1]}{(int(sentence[end - 1]) + 1) % 10}{sentence[end:]}"


def _named(text: str, names: Collection[str]) -> frozenset[str]:
    """Return which names stand in a text; of two that begin alike only the longer one, where it stands."""
    found = set()
    for name in sorted(names, key=len, reverse=True):
        pattern = rf"(?<![\w-]){re.escape(name)}(?![\w-])"
        if re.search(pattern, text):
            found.add(name)
            text = re.sub(pattern, "", text)
    return frozenset(found)


def _without(text: str, names: Collection[str]) -> str:
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, "")
    return text
