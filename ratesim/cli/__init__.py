"""The command line, `ratesim`: one function for each command.

Bad input ends in one line on stderr that names the thing and the remedy, and exit status 2. What a command needs is imported
when it runs, so that `ratesim --help` does not wait for it.
"""

from __future__ import annotations

import signal
import sys
import traceback

import typer

from ratesim.cli import calibrate_commands, notebook_commands, recommend_commands, simulate_commands  # noqa: F401 - they register
from ratesim.cli.app import app
from ratesim.cli.options import UsageError
from ratesim.formatting import escape_control_chars

__all__ = ["main"]

SOFTWARE = 70  # EX_SOFTWARE of sysexits.h: an error of ours, which is no answer of --check or diff


def _expected() -> tuple[type[Exception], ...]:
    """The errors that are somebody's input, or the world: their messages name the thing and the remedy."""
    from ratesim.errors import StorageError
    from ratesim.limit import InvalidLimitError
    from ratesim.notebook import NotebookError, NotebookExecutionError
    from ratesim.pages.recommendation.build import OutputError, ReportError
    from ratesim.recommendation.assess.prices import PriceError
    from ratesim.recommendation.decide.diff import DiffError
    from ratesim.servers import ServerError
    from ratesim.simulation.experiments.adaptive import RunFailedError
    from ratesim.simulation.experiments.executors import ClusterError
    from ratesim.simulation.experiments.result_store import ResultStoreError
    from ratesim.simulation.experiments.sweep import SweepError
    from ratesim.simulation.scenario.scenario import ScenarioError
    from traffic import LogError, TraceError

    ours = (
        UsageError,
        InvalidLimitError,
        LogError,
        TraceError,
        ScenarioError,
        OutputError,
        ReportError,
        ServerError,
        StorageError,
    )
    return (
        *ours,
        NotebookError,
        NotebookExecutionError,
        ClusterError,
        ResultStoreError,
        SweepError,
        DiffError,
        RunFailedError,
        PriceError,
        OSError,
    )


def _complain(message: str) -> None:
    print(f"ratesim: {escape_control_chars(' '.join(message.split()))}", file=sys.stderr)


def main() -> None:
    """The console script: run a command, and turn what went wrong into one line and an exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that servers are stopped
    command = typer.main.get_command(app)
    try:
        status = command.main(prog_name="ratesim", standalone_mode=False)
    except KeyboardInterrupt:
        _complain("interrupted")
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - whatever it is, it ends with a status that is nobody's answer
        name = type(error).__name__
        if hasattr(error, "format_message"):  # click's: an unknown command or option, a value of the wrong type
            said = error.format_message()
            if said:
                _complain(f"{said.rstrip('.')}; see `ratesim --help`" if name != "NoArgsIsHelpError" else said)
            sys.exit(2)
        if name == "Abort":
            _complain("interrupted")
            sys.exit(130)
        if not isinstance(error, _expected()):
            traceback.print_exc()
            sys.exit(SOFTWARE)
        _complain(str(error) or name)
        failed = (
            SOFTWARE
            if name in ("RunFailedError", "ReportError")
            else 1
            if name in ("NotebookExecutionError", "SweepError")
            else 2
        )
        sys.exit(failed)
    if status == 130:  # how typer reports a Ctrl-C
        _complain("interrupted")
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
