"""The command line, called in this process: a process of its own takes seconds to begin, and few tests are about that."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import pytest

from ratesim.cli import main


def command(
    *arguments: object, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `ratesim` with these arguments, as its console script does."""
    out, err = io.StringIO(), io.StringIO()
    words = ["ratesim", *map(str, arguments)]
    terminate = signal.getsignal(signal.SIGTERM)  # the command line sets it
    try:
        with (
            mock.patch.object(sys, "argv", words),
            mock.patch.dict(os.environ, environment or {}),
            chdir(cwd or Path.cwd()),
            redirect_stdout(out),
            redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            main()
    finally:
        signal.signal(signal.SIGTERM, terminate)
    return subprocess.CompletedProcess(words, ended.value.code, out.getvalue(), err.getvalue())


def process(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `ratesim` with these arguments in a process of its own."""
    words = [sys.executable, "-m", "ratesim", *map(str, arguments)]
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True)


def refused(result: subprocess.CompletedProcess[str], *said: str) -> str:
    """One line on stderr after the progress bar's, status 2, no traceback."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.replace("\r", "\n").splitlines() if line.startswith("ratesim: ")]
    assert len(lines) == 1, result.stderr
    assert result.stderr.endswith(lines[0] + "\n")
    for part in said:
        assert part in lines[0]
    return lines[0]
