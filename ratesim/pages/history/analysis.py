"""The recommendations below a directory, in the order of their dates, each beside the one before it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ratesim.errors import RatesimError
from ratesim.recommendation.decide.diff import DiffError, RecommendationDiff, diff, load, state_of

__all__ = ["FIGURES", "Figure", "History", "HistoryError", "PastReport", "SkippedFile", "read_history"]

REPORT = "recommendation.json"
MOST = 1_000  # files
FIGURES = ("p99", "over_admission", "worst_excess", "cost")


class HistoryError(RatesimError, ValueError):
    """A directory holds no history: one line that names it and the remedy."""


@dataclass(frozen=True)
class Figure:
    """A figure of a report with its interval; high is inf where the mean is a lower bound."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class PastReport:
    """A past report.

    Attributes
    ----------
    path
        Its file, from the directory of the history on.
    document
        What `decide.diff.load` reads of it.
    difference
        The difference from the report before it on the same scenario; None for the first.
    """

    path: str
    document: dict[str, Any]
    difference: RecommendationDiff | None = None

    @property
    def date(self) -> str:
        """The day of its study, ISO 8601; empty if the report does not say it."""
        return str(self.document["date"])

    @property
    def scenario(self) -> str:
        """The name of its scenario."""
        return str(self.document["scenario"])

    @property
    def choice(self) -> str | None:
        """The candidate that it chose; None if none met the requirements."""
        choice = self.document["choice"]
        return None if choice is None else str(choice)

    @property
    def shown(self) -> dict[str, Any] | None:
        """The contender whose figures are shown: the choice, or else the nearest; None if there was no contender."""
        contenders = self.document["assessments"]
        return next((each for each in contenders if each["candidate"] == self.choice), next(iter(contenders), None))

    @property
    def state(self) -> str:
        """The verdict on the contender whose figures are shown."""
        return state_of(self.shown) if self.shown else "no contender"

    def figure(self, name: str) -> Figure | None:
        """Return one of FIGURES of that contender; None if the report does not have it."""
        value = None if self.shown is None else self.shown[name]
        if value is None or name == "cost":
            return None if value is None else Figure(value, value, value)
        if value["mean"] is None:
            return None
        low = value["mean"] if value["low"] is None else value["low"]
        return Figure(value["mean"], low, math.inf if value["high"] is None else value["high"])

    @property
    def has_moved(self) -> bool:
        """Whether the choice is another than before."""
        return self.difference is not None and self.difference.choice[0] != self.difference.choice[1]

    @property
    def is_asked_otherwise(self) -> bool:
        """Whether the question is another than before. Traffic of the same scenario is not: a new log always differs."""
        return self.difference is not None and any(not each.startswith("traffic, ") for each in self.difference.question)


@dataclass(frozen=True)
class SkippedFile:
    """A file that is no report of this version, and why, in one line."""

    path: str
    reason: str


@dataclass(frozen=True)
class History:
    """Past reports by date and then by path, and the files that were skipped."""

    directory: Path
    reports: tuple[PastReport, ...]
    skipped: tuple[SkippedFile, ...]


def read_history(directory: str | Path) -> History:
    """Read the recommendations below a directory.

    They are the files recommendation.json, and in directories without one all other files that end in .json. Symbolic links
    to directories are not followed.

    Raises
    ------
    HistoryError
        There is no such directory, it holds too many files, or none of them is a report of this version.
    """
    top = Path(directory)
    if not top.is_dir():
        raise HistoryError(f"{directory}: is no directory; name one that holds reports, such as reports")
    read: list[PastReport] = []
    skipped: list[SkippedFile] = []
    for number, file in enumerate(_files(top)):
        if number >= MOST:
            raise HistoryError(f"{directory}: holds more than {MOST:,} JSON files; name a directory with fewer")
        path = file.relative_to(top).as_posix()
        try:
            read.append(PastReport(path, load(file)))
        except DiffError as error:
            skipped.append(SkippedFile(path, str(error).removeprefix(f"{file}: ")))
    if not read:
        why = f"; {skipped[0].path} {skipped[0].reason}" if skipped else ""
        raise HistoryError(f"{directory}: holds no report{why}; ratesim report --out {directory}/NAME writes one")
    read.sort(key=lambda each: (each.date, each.path))
    last: dict[str, PastReport] = {}
    reports = []
    for each in read:
        before = last.get(each.scenario)
        reports.append(PastReport(each.path, each.document, diff(before.document, each.document) if before else None))
        last[each.scenario] = each
    return History(top, tuple(reports), tuple(skipped))


def _files(top: Path) -> Iterator[Path]:
    for folder, inner, names in os.walk(top):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        found = [REPORT] if REPORT in names else sorted(name for name in names if name.endswith(".json"))
        yield from (Path(folder) / name for name in found)
