"""The scenario of a report as it is written beside it: what it names is found again from there, or is said to be gone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ratesim.simulation.scenario.temporary_files import STANDARD_INPUT, is_temporary

if TYPE_CHECKING:
    from ratesim.simulation.scenario.scenario import Scenario

__all__ = ["has_standard_input", "lasting", "portable"]


def portable(scenario: Scenario, folder: Path) -> Scenario:
    """Name the files of the log relative to `folder`, except those that share nothing with it but the root."""
    workload = scenario.workload
    named: dict[str, Any] = {}
    if workload.log is not None:
        logs = tuple(_near(each, folder) for each in workload.logs)
        named["log"] = logs[0] if isinstance(workload.log, str) else logs
    if workload.key_file is not None:
        named["key_file"] = _near(workload.key_file, folder)
    if workload.log_format is not None and workload.log_format.startswith("@"):
        file, colon, name = workload.log_format[1:].partition(":")
        named["log_format"] = f"@{_near(file, folder)}{colon}{name}"
    return scenario.model_copy(update={"workload": workload.model_copy(update=named)})


def lasting(scenario: Scenario) -> Scenario:
    """Name what ends with its process as what it was: standard input "-", and no file of a secret that nobody has kept."""
    workload = scenario.workload
    logs = tuple(STANDARD_INPUT if is_temporary(each) else each for each in workload.logs)
    changed: dict[str, Any] = {} if workload.log is None else {"log": logs[0] if isinstance(workload.log, str) else logs}
    if workload.key_file is not None and is_temporary(workload.key_file):
        changed["key_file"] = None
    return scenario.model_copy(update={"workload": workload.model_copy(update=changed)})


def has_standard_input(scenario: Scenario) -> bool:
    """Tell whether the log of a scenario came from standard input."""
    return any(map(is_temporary, scenario.workload.logs))


def _near(path: str, folder: Path) -> str:
    absolute, home = os.path.abspath(path), os.path.realpath(folder)
    shared = os.path.commonpath([absolute, home]) if os.path.splitdrive(absolute)[0] == os.path.splitdrive(home)[0] else ""
    near = len(Path(shared).parts) > 1 if shared and not is_temporary(path) else False
    return Path(os.path.relpath(absolute, home)).as_posix() if near else absolute
