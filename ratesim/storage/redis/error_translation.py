"""What an error of Redis means: a key that is refused for good, a server that takes nothing now, or a lost connection."""

from __future__ import annotations

import re
import struct

import redis.exceptions
from redis.asyncio.sentinel import MasterNotFoundError

from ratesim.errors import (
    KeyRefusedError,
    SerializationError,
    StorageConnectionError,
    StorageError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from ratesim.safe_text import redact, shorten_identifier, shorten_repr
from ratesim.server_url import address_of

__all__ = ["DOWN", "MALFORMED", "NotSentError", "connection_error", "error_code", "operation_error", "strange_answer"]

MALFORMED = (AttributeError, TypeError, ValueError, LookupError, struct.error)  # raised by reading an answer of another kind

# What the server answers while it carries out nothing of the kind, and the remedy.
UNAVAILABLE = {
    "LOADING": "loads its data; it takes operations when that is done",
    "READONLY": "is a read-only replica; give the address of the primary",
    "OOM": "is at maxmemory with noeviction; raise maxmemory, or set maxmemory-policy volatile-ttl",
    "MISCONF": "cannot save to its disk and takes no writes; make room on the disk, or look at its log",
    "NOREPLICAS": "has fewer replicas in sync than min-replicas-to-write; look at the replicas",
    "BUSY": "runs a script that does not end; SCRIPT KILL ends it",
    "TRYAGAIN": "moves the slot of this key to another node of its cluster; try again",
    "CLUSTERDOWN": "belongs to a cluster that is down; look at CLUSTER INFO",
    "MASTERDOWN": "is a replica whose primary is down; give the address of the primary",
    "PACKED": "has a state that is written by set_state faster than it can be decided on; write it more seldom",
    "NOSCRIPT": "forgets its scripts faster than they are loaded; look for a client that calls SCRIPT FLUSH",
}
# Those of a server that carries out nothing at all, so that it is left alone for a while, as one that is not reached.
DOWN = frozenset({"LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN"})
REFUSED = {
    "NOAUTH": "asks for a password; give user and password in the url",
    "WRONGPASS": "refuses the user or the password of the url; correct them",
    "NOPERM": "does not allow this user {}; grant it by ACL SETUSER",
    "MOVED": "is a node of a cluster; begin the url with redis+cluster://",
}
_CODE = re.compile(rf"(?:^|[:\s-])({'|'.join([*UNAVAILABLE, *REFUSED, 'WRONGTYPE'])})\b")
_NOT_ALLOWED = re.compile(r"\bthe ('[a-z|-]{1,40}') command")  # of the words of NOPERM
# Where the state that a script has read is damaged: an error of Lua itself, or of HINCRBY.
_STATE = re.compile(r"(?<!@)user_script:\d+: |not an integer|would overflow")
_BY_CLASS = (  # redis-py cuts the code off the messages of these
    (redis.exceptions.BusyLoadingError, "LOADING"),
    (redis.exceptions.ReadOnlyError, "READONLY"),
    (redis.exceptions.OutOfMemoryError, "OOM"),
    (redis.exceptions.TryAgainError, "TRYAGAIN"),
    (redis.exceptions.MasterDownError, "MASTERDOWN"),
    (redis.exceptions.ClusterDownError, "CLUSTERDOWN"),
    (redis.exceptions.NoScriptError, "NOSCRIPT"),
    (redis.exceptions.NoPermissionError, "NOPERM"),
    (redis.exceptions.MovedError, "MOVED"),
)


class NotSentError(redis.exceptions.ConnectionError):
    """A server was not reached, so nothing was sent."""


def strange_answer(answer: object) -> redis.exceptions.InvalidResponse:
    """Return the error of an answer that Redis does not give to what was asked."""
    return redis.exceptions.InvalidResponse(f"its answer is none of Redis': {shorten_repr(answer)}; is a proxy in between?")


def error_code(error: Exception) -> str:
    """Return the code of an error that the server answered; "" for one that has none."""
    for kind, code in _BY_CLASS:
        if isinstance(error, kind):
            return code
    if isinstance(error, redis.exceptions.AuthenticationError):
        return "NOAUTH" if "required" in str(error) else "WRONGPASS"
    if "ACL failure in script" in str(error) or "user executing the script can't" in str(error):  # from 7.0 on, and before
        return "NOPERM"
    found = _CODE.search(str(error))
    return found[1] if found else ""


def operation_error(error: Exception, identifier: str, url: str) -> StorageError:
    """Return the error of one operation.

    Parameters
    ----------
    error
        What the server answered, or what the encoding of a value raised.
    identifier
        Whose operation it was.
    url
        Of the server, for the message.
    """
    code, address = error_code(error), address_of(url)
    if code in UNAVAILABLE:
        return StorageUnavailableError(f"{address}: {UNAVAILABLE[code]}")
    if code in REFUSED:
        return StorageError(f"{address}: {_refusal(code, error)}")
    if isinstance(error, redis.exceptions.ConnectionError | redis.exceptions.TimeoutError):  # one of several servers is lost
        return connection_error(error, url)
    whose = f"identifier {shorten_identifier(identifier)}"
    if code == "WRONGTYPE":
        return KeyRefusedError(f"{whose}: its key holds another type; delete the key, or choose another key_prefix")
    if isinstance(error, UnicodeError | redis.exceptions.DataError):
        return KeyRefusedError(f"{whose}: a value cannot be encoded ({shorten_repr(str(error))})")
    if _STATE.search(str(error)):
        return SerializationError(f"{whose}: a state that cannot be read ({shorten_repr(str(error))}); reset it")
    return StorageError(f"{address}: {_line(error, url)}")


def connection_error(error: Exception, url: str) -> StorageError:
    """Return the error of a connection, which is that of all operations on it."""
    code, address = error_code(error), address_of(url)
    if code in UNAVAILABLE:
        return StorageUnavailableError(f"{address}: {UNAVAILABLE[code]}")
    if code in REFUSED:
        return StorageConnectionError(f"{address}: {_refusal(code, error)}", sent=False)
    if isinstance(error, MasterNotFoundError):
        return StorageConnectionError(
            f"{address}: no primary is known ({_line(error, url)}); look at SENTINEL MASTERS, and at the url", sent=False
        )
    if "DB index is out of range" in str(error):
        return StorageError(f"{address}: has no database of this number; correct the url, or raise its option databases")
    if "cluster support disabled" in str(error):
        return StorageError(f"{address}: is no cluster; begin the url with redis://")
    if isinstance(error, redis.exceptions.TimeoutError | TimeoutError):
        return StorageTimeoutError(f"{address}: no answer in time; raise command_timeout, or look at the server")
    if isinstance(error, redis.exceptions.ConnectionError | OSError):
        if "max number of clients" in str(error):
            return StorageUnavailableError(f"{address}: has maxclients connections already; raise it, or use fewer nodes")
        # redis-py connects before it sends, and says so only in its words.
        sent = "connecting to" not in str(error) and not isinstance(error, NotSentError)
        reason = _line(error, url)
        if "[SSL:" in reason:
            return StorageConnectionError(
                f"{address}: TLS failed ({reason}); correct the url's scheme or certificates", sent=sent
            )
        return StorageConnectionError(f"{address}: not reachable ({reason}); is the server running there?", sent=sent)
    if isinstance(error, redis.exceptions.InvalidResponse):
        return StorageConnectionError(
            f"{address}: is no Redis ({shorten_repr(str(error))}); correct the url's host and port"
        )
    return StorageError(f"{address}: {_line(error, url)}")


def _refusal(code: str, error: Exception) -> str:
    """Say what is refused for good."""
    command = _NOT_ALLOWED.search(str(error))
    return REFUSED[code].format(command[1] if command else "a command or a key")


def _line(error: Exception, url: str) -> str:
    """Return the message of an error on one line, without the password."""
    return redact(" ".join(str(error).split()), url)[:200] or type(error).__name__
