"""The Lua scripts: each is put together from the rules that it needs, and known to the server by its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import Any

from ratesim import algorithms
from ratesim.storage.base import EXPIRY_MARGIN
from ratesim.storage.redis.log_fields import CHUNK

__all__ = ["digest_of", "in_full", "log_script_of", "lua_source", "script_of"]


ALONE = {"claim", "increment", "look"}  # scripts that use no other file
_texts: dict[bytes, str] = {}  # of all scripts, by digest


def digest_of(text: str) -> bytes:
    """Return the digest that the server knows a script by."""
    digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest().encode()
    _texts[digest] = text
    return digest


def in_full(command: Sequence[Any]) -> tuple[Any, ...]:
    """Return a command with its whole script, for a server that does not know the script."""
    return ("EVAL", _texts[command[1]], *command[2:])


def script_of(name: str, names: tuple[str, ...] = ()) -> bytes:
    """Make a script with the rules of the algorithms it needs in front, and return its digest."""
    return _assemble(name, tuple(map(algorithms.get, names)))


@lru_cache(maxsize=256)
def _assemble(name: str, needed: tuple[algorithms.Algorithm, ...]) -> bytes:
    logs = any(algorithm.pairs for algorithm in needed)
    parts = [f"local CHUNK = {CHUNK}\n", lua_source("doubles")] if logs or name == "put" else []
    parts += [lua_source("in_parts")] if logs or name in ("put", "unpack") else []
    if needed or name not in ALONE:
        parts += ["local forget, time_of\n", lua_source("forget"), lua_source("time_of")]
    if needed:
        parts += ["local log\n", lua_source("log") if logs else ""]
        parts.append("local rules, fields, logs = {}, {}, {}\n")
        for algorithm in needed:
            each = algorithm.name
            fields = ", ".join(f"'{field.removesuffix('[]')}'" for field in algorithm.rule.FIELDS)
            parts.append(f"fields['{each}'] = {{{fields}}}\n")
            parts.append(f"logs['{each}'] = {'true' if algorithm.pairs else 'false'}\n")
            parts.append(f"rules['{each}'] = (function()\n{algorithm.lua}\nend)()\n")
        parts.append(lua_source("record"))
    return digest_of("".join([*parts, lua_source(name)]))


@lru_cache(maxsize=256)
def log_script_of(consume: bool, named: bool, server: bool, least: float) -> bytes:
    """Make the script of one sliding log: its common case, and behind that the general script. Return its digest."""
    flags = ", ".join(str(flag).lower() for flag in (consume, named, server))
    constants = f"local CONSUME, NAMED, SERVER, LEAST, MARGIN, CHUNK = {flags}, {least!r}, {EXPIRY_MARGIN!r}, {CHUNK}\n"
    general = _texts[script_of("acquire", ("sliding_log",))]
    return digest_of("".join([constants, lua_source("doubles"), lua_source("acquire_log"), general]))


def lua_source(stem: str) -> str:
    """Return the text of a file of `lua/`."""
    return (resources.files("ratesim.storage.redis") / "lua" / f"{stem}.lua").read_text("utf-8")
