"""A terminal for the standard error of a process: a bar is shown there, and elsewhere one line for each stage."""

from __future__ import annotations

import os
import re
import termios
from types import TracebackType


class Terminal:
    """A pseudo-terminal. `device` is given to the process, and what it shows is read from the other end."""

    def __enter__(self) -> Terminal:
        self._own, self.device = os.openpty()
        termios.tcsetwinsize(self.device, (24, 120))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._own)

    def hand_over(self) -> None:
        """Close this process's hold of the device: what is shown ends with the process that has it."""
        os.close(self.device)

    def read_until(self, pattern: str) -> str:
        """Wait until what matches the pattern was shown; AssertionError where the process ends before."""
        shown = ""
        while not re.search(pattern, shown):
            part = self._read()
            assert part, shown
            shown += part
        return shown

    def rest(self) -> str:
        """Read what is left until the process has ended."""
        shown = ""
        while part := self._read():
            shown += part
        return shown

    def _read(self) -> str:
        try:
            return os.read(self._own, 4096).decode(errors="replace")
        except OSError:  # EIO: nobody holds the device any more
            return ""
