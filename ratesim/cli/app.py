"""The application that commands are registered in, and what several of them share."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from ratesim.formatting import escape_control_chars
from ratesim.safe_text import redact

if TYPE_CHECKING:
    from ratesim.recommendation.assess.prices import Prices
    from ratesim.simulation.cost_model.profile import Profile

__all__ = ["app", "bar", "complain", "prices_of", "profile_of"]

LONGEST_WORD, LONGEST_LINE = 200, 2000  # characters


class CommandGroup(TyperGroup):
    """The commands, each with its whole first sentence, on as many lines as it takes."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of the commands."""
        found = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        rows = [(name, each.get_short_help_str(LONGEST_LINE)) for name, each in found.items() if each and not each.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


app = typer.Typer(
    cls=CommandGroup,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Decide by evidence where the state of your API's rate limiter should live: memory, Redis, PostgreSQL, or memory "
    "backed by Redis.\n\nBegin with:  ratesim report --log access.log --limit 100/minute --nodes 8 --p99 2ms "
    "--max-over-admission 1% --out my-report",
)


def complain(about: str | Exception) -> None:
    """Print an error as one line on stderr."""
    message = redact(" ".join((str(about) or type(about).__name__).split()))
    # What no check has shortened, such as a path: no word is longer than a value may be, and no line is without end.
    message = re.sub(rf"\S{{{LONGEST_WORD},}}", lambda word: f"{word[0][: LONGEST_WORD - 3]}...", message)
    print(f"ratesim: {escape_control_chars(message[:LONGEST_LINE])}", file=sys.stderr)


def profile_of(path: Path | None) -> Profile | None:
    """Load the profile in a file; None without one."""
    from ratesim.simulation.cost_model.profile import Profile

    return Profile.load(path) if path else None


def prices_of(path: Path | None) -> Prices | None:
    """Load the prices in a file; None without one."""
    from ratesim.recommendation.assess.prices import Prices

    return Prices.load(path) if path else None


@contextmanager
def bar() -> Iterator[Callable[[int, int, str], None]]:
    """Show a progress bar on stderr. The value is the `progress` argument that ratesim's functions take."""
    from ratesim.progress import progress_bar

    with progress_bar(True) as tell:
        yield tell
