"""PostgreSQL's errors as errors of the storage: the class by the SQLSTATE, and a line with cause and remedy."""

from __future__ import annotations

import re

import psycopg

from ratesim.errors import (
    KeyRefusedError,
    StorageConnectionError,
    StorageError,
    StorageTimeoutError,
    StorageUnavailableError,
)

__all__ = ["CHANGED", "READ_ONLY", "ROLLED_BACK", "UNPREPARED", "connection_error", "statement_error"]

ROLLED_BACK = frozenset({"40001", "40P01"})  # a serialization failure, a deadlock: nothing was done, and it may be repeated
# A table, a function, a schema or a column that is missing, a key that is another one, or a row without a period because
# {table}_periods is empty: somebody has changed the tables.
CHANGED = frozenset({"42P01", "42883", "3F000", "42703", "42P10", "23502"})
READ_ONLY = "25006"
UNPREPARED = frozenset({"26000", "42P05"})  # a prepared statement that is not there, or is there already

# By the beginning of the SQLSTATE, the longest that fits (appendix A of PostgreSQL's manual): class and remedy.
_REMEDIES: dict[str, tuple[type[StorageError], str]] = {
    "08": (StorageConnectionError, ""),
    "08P01": (StorageConnectionError, "if a pooler answers, let it pool by transactions or sessions, not by statements"),
    "57P": (StorageConnectionError, ""),
    # What one value or one row brings about: cardinality, data, integrity, program limit, damaged data.
    **dict.fromkeys(("20", "21", "22", "23", "54", "XX001"), (KeyRefusedError, "")),
    "23514": (KeyRefusedError, "its partition is missing; make it as `ratesim schema URL` prints it"),
    "25006": (StorageUnavailableError, "a standby, or default_transaction_read_only is on; name the primary in the url"),
    "53100": (StorageUnavailableError, "make room on the server's disk"),
    "53200": (StorageUnavailableError, "the server has no memory left"),
    "53": (StorageUnavailableError, ""),
    "57014": (StorageTimeoutError, "raise query_timeout, or the statement_timeout of the role; or look at the server"),
    "25P": (StorageTimeoutError, "raise transaction_timeout or idle_in_transaction_session_timeout, or look at the server"),
    "0A": (StorageUnavailableError, ""),  # such as an unlogged table on a standby
    "58": (StorageUnavailableError, "look at the server's disk and its log"),
    "55P03": (StorageTimeoutError, "another transaction holds the lock; raise command_timeout, or look at the server"),
    "42501": (StorageError, "let an administrator run `ratesim schema URL --role ROLE | psql`"),
    "42P01": (StorageError, "let an administrator run `ratesim schema URL | psql`"),
    "42P07": (StorageError, "something else has this name; rename or drop it, or choose another table_name"),
    "42P10": (StorageError, "the table has lost its primary key; add it as `ratesim schema URL` prints it"),
    "42703": (StorageError, "the table is of another program or version; choose another table_name"),
    "42883": (StorageError, "let an administrator run `ratesim schema URL | psql`"),
    "3F000": (StorageError, "let an administrator run `ratesim schema URL | psql`"),
    "26000": (StorageError, "a pooler changes the session; set prepared_statements=false"),
    "42P05": (StorageError, "a pooler changes the session; set prepared_statements=false"),
}
# A refused connection has no SQLSTATE in libpq, only the server's text, which is English unless lc_messages says otherwise.
_REFUSALS: tuple[tuple[str, type[StorageConnectionError], str], ...] = (
    (
        r"authentication failed|no password supplied|SASL|SCRAM",
        StorageConnectionError,
        "correct the password in the url",
    ),
    (r"database \".*\" does not exist|no such database", StorageConnectionError, "correct the database in the url"),
    (r"role \".*\" does not exist|no such user", StorageConnectionError, "correct the user in the url"),
    (r"no pg_hba\.conf entry", StorageConnectionError, "allow this host and user in the server's pg_hba.conf"),
    (
        r"too many (clients|connections)|connection slots|no more connections|too_many",
        StorageUnavailableError,
        "lower pool_size, or raise max_connections of the server",
    ),
    (
        r"starting up|shutting down|recovery mode|not accepting connections|not yet accepting",
        StorageUnavailableError,
        "wait for the server",
    ),
    (
        r"session is read-only|not in hot standby|server is in hot standby",
        StorageUnavailableError,
        "name the primary in the url",
    ),
    (
        r"unsupported startup parameter",
        StorageConnectionError,
        "a pooler takes no options= in the url; name the schema with schema=",
    ),
    (r"SSL|TLS|certificate", StorageConnectionError, "correct sslmode and the certificates in the url"),
    (r"could not translate host name|resolve|Name or service", StorageConnectionError, "correct the host in the url"),
)
# An answer of a server in another language begins with the severity, one word; what libpq says of itself does not.
ANSWERED = r"[^\W\d_]+: "


def connection_error(where: str, message: str) -> StorageConnectionError:
    """Return the error of a connection that could not be made. Nothing was sent.

    Parameters
    ----------
    where
        Host and port.
    message
        The driver's message: one line, without the password.
    """
    # libpq's hint and psycopg's preamble say nothing of the cause.
    reason = re.sub(r"\s*Is the server running .*$|^connection failed: |connection to server .*? failed: ", "", message)
    for pattern, kind, remedy in _REFUSALS:
        if re.search(pattern, reason):
            return kind(f"PostgreSQL at {where} refused the connection ({reason}): {remedy}", sent=False)
    if re.match(ANSWERED, reason):
        return StorageConnectionError(
            f"PostgreSQL at {where} refused the connection ({reason}): look at the server's log", sent=False
        )
    return StorageConnectionError(f"no PostgreSQL at {where} ({reason}): start it, or correct the url", sent=False)


def statement_error(where: str, error: psycopg.Error, message: str) -> StorageError:
    """Return the error of a statement.

    Parameters
    ----------
    where
        Host and port.
    error
        The driver's error.
    message
        Its message: one line, without the password.
    """
    state = error.sqlstate or ""
    line = f"PostgreSQL at {where}: {message}"
    if state in ROLLED_BACK:
        return StorageConnectionError(line, sent=False)
    for length in (5, 3, 2):
        if len(state) >= length and state[:length] in _REMEDIES:
            kind, remedy = _REMEDIES[state[:length]]
            return kind(f"{line}: {remedy}" if remedy else line)
    if isinstance(error, psycopg.DataError):  # of the driver
        return KeyRefusedError(line)
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return StorageConnectionError(line)
    return StorageError(line)
