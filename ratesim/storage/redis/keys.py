"""The key of an identifier. What stands in its braces decides the slot on a cluster, so all keys of one share a slot."""

from __future__ import annotations

__all__ = ["key_of"]

# After "{}" a cluster would hash the whole key, and an identifier's keys would part. No text has this byte in UTF-8.
FILLER = b"\xff"


def key_of(prefix: str, identifier: str) -> bytes:
    """Return the key of the hash of an identifier; its other keys begin with it."""
    if not identifier or identifier[0] == "}":
        return f"{prefix}{{".encode("utf-8", "surrogatepass") + FILLER + f"{identifier}}}".encode("utf-8", "surrogatepass")
    return f"{prefix}{{{identifier}}}".encode("utf-8", "surrogatepass")
