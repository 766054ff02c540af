"""`Anonymizer` replaces what can name a person in a trace, so that the trace can be handed on.

A key becomes a keyed hash (BLAKE2b, https://www.rfc-editor.org/rfc/rfc7693) of its name. Whoever has not got the secret
cannot find a name by hashing all addresses there are, and nobody can compute a name from its hash. Of an endpoint the method
stays and the path becomes a hash, since a path may be a person's name. Of the provenance the counts stay, and which fields
were taken; what names a file or quotes a line goes.

Times, costs, statuses and sessions stay, because a limiter is judged by them. Whoever has another log of the same requests
can match the two by their times: cut or scale such a trace, or hand on a fitted recipe instead.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Iterable
from dataclasses import replace
from hashlib import blake2b
from os import PathLike, fspath
from pathlib import Path
from typing import NoReturn

from traffic.addresses import ALL, NOBODY
from traffic.provenance import Provenance, TrafficError
from traffic.trace import Trace

__all__ = ["AnonymizeError", "Anonymizer"]

LEAST_BYTES, MOST_BYTES = 16, 1 << 16
SECRET_BYTES = 32
NAME_BYTES = 10  # two of 100 million names are alike once in 200 million traces
PREFIX = "key-"
METHOD = re.compile(r"((?:[A-Z][A-Z_-]*+ (?=/))?)(.*)", re.DOTALL)
SAID_BY_ALL = (NOBODY, ALL, "other")  # these names tell of nobody
SOURCE = "anonymized"
# What is said of the numbers, and not of files.
PLAIN_NOTES = ("the service limits: ", "the key: ", "the cost: ", "time out of order: ")
# A sentence on what was assumed, without the source before it; what a format is spelled like quotes lines.
ASSUMED = re.compile(r"(?:^|: )((?:key|client|time|status): .*)", re.DOTALL)


class AnonymizeError(TrafficError):
    """The file of the secret cannot be used; the message names the file and the remedy, never its content."""


class Anonymizer:
    """Replaces names by keyed hashes; equal names become equal hashes as long as the secret is the same.

    Parameters
    ----------
    secret : bytes, optional
        At least 16 bytes that nobody can guess. Without it the secret is random and lasts as long as this object. It is
        never printed, and the object cannot be pickled.

    Raises
    ------
    AnonymizeError
        If the secret is too short.
    """

    __slots__ = ("_names", "_paths")

    def __init__(self, secret: bytes | None = None) -> None:
        if secret is None:
            secret = secrets.token_bytes(SECRET_BYTES)
        if len(secret) < LEAST_BYTES:
            raise AnonymizeError(f"secret: has {len(secret)} bytes, which could be guessed; use {LEAST_BYTES} or more")
        key = blake2b(secret).digest()
        self._names = blake2b(key=key, digest_size=NAME_BYTES, person=b"key")
        self._paths = blake2b(key=key, digest_size=NAME_BYTES, person=b"path")

    def __repr__(self) -> str:
        return "Anonymizer()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Anonymizer holds a secret and cannot be pickled or copied")

    @classmethod
    def from_file(cls, path: str | PathLike[str]) -> Anonymizer:
        """Take the secret from a file that only its owner may read; a file that is missing is made with a random one.

        Raises
        ------
        AnonymizeError
            If others may read the file, or it is no plain file, or holds fewer than 16 bytes.
        OSError
            If it cannot be read or made.
        """
        place = Path(path)
        try:
            return cls._read(place)
        except FileNotFoundError:
            _make(place)
            return cls._read(place)

    @classmethod
    def _read(cls, path: Path) -> Anonymizer:
        # Not blocking, since opening a named pipe would wait for its writer.
        with open(path, "rb", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise AnonymizeError(f"key file {fspath(path)!r}: is no plain file; name one, or none, and it is made")
            if about.st_mode & 0o077:
                raise AnonymizeError(f"key file {fspath(path)!r}: others can read it; chmod 600 it")
            secret = file.read(MOST_BYTES + 1).strip()
        if not LEAST_BYTES <= len(secret) <= MOST_BYTES:
            raise AnonymizeError(
                f"key file {fspath(path)!r}: a secret has {LEAST_BYTES} to {MOST_BYTES} bytes, this one "
                f"{'more' if len(secret) > MOST_BYTES else len(secret)}; remove the file, and one is made"
            )
        return cls(secret)

    def name(self, name: str) -> str:
        """Return the hash of a key's name, "key-" and 20 hexadecimal digits; "-", "all" and "other" stay."""
        if name in SAID_BY_ALL:
            return name
        return PREFIX + _digest(self._names, name)

    def names(self, names: Iterable[str]) -> list[str]:
        """Return the hash of each name."""
        return [self.name(name) for name in names]

    def endpoint(self, name: str) -> str:
        """Return the method and the hash of the rest: "GET /3f5a..."; "/" stays."""
        method, path = METHOD.fullmatch(name).groups()  # type: ignore[union-attr]  # it matches every text
        if path in ("/", *SAID_BY_ALL):
            return name
        return f"{method}{'/' if path.startswith('/') else ''}{_digest(self._paths, path)}"

    def provenance(self, origin: Provenance) -> Provenance:
        """Return what a provenance tells but files and lines."""
        notes = [note for note in origin.notes if note.startswith(PLAIN_NOTES)]
        assumed = [found[1] for text in origin.assumed if (found := ASSUMED.search(text))]
        return replace(
            origin,
            source=SOURCE,
            examples=(),
            notes=(*notes, "names are keyed hashes"),
            assumed=tuple(dict.fromkeys(assumed)),
        )

    def trace(self, trace: Trace) -> Trace:
        """Return the trace with hashes for names, and without what its provenance tells of files and lines."""
        return Trace(
            trace.time,
            trace.key,
            self.names(trace.keys),
            cost=trace.cost,
            session=trace.session,
            endpoint=trace.endpoint,
            endpoints=[self.endpoint(name) for name in trace.endpoints],
            status=trace.status,
            grain=trace.grain,
            provenance=self.provenance(trace.provenance),
        )


def _digest(base: blake2b, text: str) -> str:
    digest = base.copy()
    digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _make(path: Path) -> None:
    """Make the file of a secret, whole and private from its first moment; one that another process made meanwhile stays."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.partial")
    try:
        with open(partial, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(secrets.token_hex(SECRET_BYTES).encode() + b"\n")
        try:
            os.link(partial, path)
        except FileExistsError:
            return
    finally:
        partial.unlink(missing_ok=True)
