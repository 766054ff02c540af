"""The command line, `ratesim`: a function for each command, and the exit status of every error.

An error ends in one line on stderr that names the cause and the remedy, and in the exit status of its class. A command
imports its modules when it runs, so that `ratesim --help` does not wait for them.
"""

from __future__ import annotations

import signal
import sys
import traceback

import typer

from ratesim.cli import (  # noqa: F401 - they register
    calibrate_commands,
    format_commands,
    notebook_commands,
    recommend_commands,
    scenario_commands,
    simulate_commands,
    storage_commands,
    trace_commands,
)
from ratesim.cli.app import app, complain
from ratesim.cli.options import check_words
from ratesim.errors import RatesimError

__all__ = ["main"]

INTERRUPTED = 130  # as a shell tells an end by SIGINT
DEFECT = 70  # EX_SOFTWARE of sysexits.h


def main() -> None:
    """Run a command as the console script does. An error becomes one line on stderr and an exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that servers are stopped
    try:
        check_words(sys.argv[1:])
        status = typer.main.get_command(app).main(prog_name="ratesim", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except RatesimError as error:
        complain(error)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 - a defect, too, must end with a status that is no answer of --check or diff
        sys.exit(_exit_code(error))
    if status == INTERRUPTED:  # typer returns it for a Ctrl-C
        complain("interrupted")
    sys.exit(status if isinstance(status, int) else 0)


def _exit_code(error: Exception) -> int:
    """Report an error that is not a `RatesimError`."""
    from traffic import TrafficError  # here, because it brings numpy

    if hasattr(error, "format_message"):  # typer's: an unknown command or option, or a value of the wrong type
        message = error.format_message()
        if type(error).__name__ == "NoArgsIsHelpError":  # the message is the help
            print(message, file=sys.stderr)
        elif message:
            context = getattr(error, "ctx", None)
            asked = context.command_path if context is not None else "ratesim"
            complain(f"{message.rstrip('.')}; see `{asked} --help`")
    elif isinstance(error, TrafficError | OSError):
        complain(error)
    else:
        traceback.print_exc()
        return DEFECT
    return RatesimError.exit_code


if __name__ == "__main__":
    main()
