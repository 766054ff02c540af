"""The accounts that servers are started by."""

from __future__ import annotations

import os

import pytest

ACCOUNTS = ["as the caller", "as nobody"] if os.geteuid() == 0 else ["as the caller"]
each_account = pytest.mark.parametrize("python", ACCOUNTS, indirect=True)
