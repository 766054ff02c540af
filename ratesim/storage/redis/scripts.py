"""The Lua scripts: each is put together from the rules that it needs, and known to the server by its digest."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib import resources
from typing import Any

from ratesim import algorithms
from ratesim.storage.redis.log_fields import CHUNK

__all__ = ["command_of", "script_of"]


def command_of(call: tuple[Any, ...], in_full: bool = False) -> tuple[Any, ...]:
    """Return the command of a call (script or None, arguments); with the whole script where the server may not know it."""
    script, *arguments = call
    if script is None:
        return tuple(arguments)
    return ("EVAL", script, 1, *arguments) if in_full else ("EVALSHA", _sha(script), 1, *arguments)


@lru_cache(maxsize=256)
def script_of(name: str, names: tuple[str, ...]) -> str:
    """Make a script with the rules of the algorithms it needs in front."""
    logs = {each for each in names if algorithms.get(each).pairs}
    parts = [f"local CHUNK = {CHUNK}\n", _lua("doubles")] if logs or name == "put" else []
    if name == "acquire" and names == ("sliding_log",):
        parts.append(_lua("acquire_log"))  # decides the common case, before any function is made
    parts += [_lua("in_parts")] if logs or name == "put" else []
    parts += ["local forget, time_of\n", _lua("forget"), _lua("time_of")]
    if names:
        parts += ["local log\n", _lua("log") if logs else ""]
        parts.append("local rules, fields, logs = {}, {}, {}\n")
        for each in names:
            algorithm = algorithms.get(each)
            fields = ", ".join(f"'{field.removesuffix('[]')}'" for field in algorithm.rule.FIELDS)
            parts.append(f"fields['{each}'] = {{{fields}}}\n")
            parts.append(f"logs['{each}'] = {'true' if each in logs else 'false'}\n")
            parts.append(f"rules['{each}'] = (function()\n{algorithm.lua}\nend)()\n")
        parts.append(_lua("record"))
    return "".join([*parts, _lua(name)])


def _lua(stem: str) -> str:
    return (resources.files("ratesim.storage.redis") / "lua" / f"{stem}.lua").read_text("utf-8")


@lru_cache(maxsize=256)
def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
