"""The Lua scripts: each is put together from the rules that it needs, and known to the server by its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import Any

from ratesim import algorithms
from ratesim.storage.redis.log_fields import CHUNK

__all__ = ["digest_of", "in_full", "lua_source", "script_of"]


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
    if name == "acquire" and [algorithm.name for algorithm in needed] == ["sliding_log"]:
        parts.append(lua_source("acquire_log"))  # decides the common case, before any function is made
    parts += [lua_source("in_parts")] if logs or name in ("put", "unpack") else []
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


def lua_source(stem: str) -> str:
    """Return the text of a file of `lua/`."""
    return (resources.files("ratesim.storage.redis") / "lua" / f"{stem}.lua").read_text("utf-8")
