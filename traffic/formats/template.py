"""A line's form, as a server's configuration gives it: `Template.parse` reads nginx's, Apache's, Envoy's and HAProxy's.

    $remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent

A variable is a field of the line. The text between two variables says where the first one ends.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from traffic.formats import template_dialects
from traffic.formats import template_kernel as kernel
from traffic.formats.base import FormatMismatchError
from traffic.formats.template_parts import Part, Variable
from traffic.formats.template_splitter import TemplateSplitter
from traffic.provenance import printable

MAX_LENGTH = 16_000
MAX_PARTS = 200
SHOWN = 40  # characters of a line

_NUMBERS = re.compile(
    r"(body_)?bytes_\w+|bytes|\w*_length|request_time(_ms|_us)?|msec|time_(sec|msec|usec)|pid|connection|connection_requests|\w*_port"
    r"|(\w+_)?duration(_ms|_us|_s)?|gzip_ratio|time_(?!iso8601|local)\w+_ms|elapsed"
)
_LISTS = re.compile(
    r"remote_addr|realip_remote_addr|(proxy_add|http)_x_(forwarded_for|real_ip)|http_(true_client_ip|cf_connecting_ip)"
    r"|upstream_(?!cache)\w+"
)
_TIMES = re.compile(r"time_local\w*|time_iso8601\w*|start_time|time|timestamp|date_time")
# Text that may have blanks, also where it is the last of a line.
_TEXTS = re.compile(r"(http|sent_http|cookie|arg)_\w+|request\w*|uri|args|query_string|remote_user")
# What a variable begins with tells where the one right before it ends.
_BEGINS = {"request_uri": b"/", "uri": b"/", "args": b"?", "is_args": b"?"}
_PATHS, _QUERIES = ("uri", "request_uri"), ("is_args", "args", "query_string")


@dataclass(frozen=True)
class Template:
    """A line as text and variables in turn.

    Attributes
    ----------
    parts : tuple[str | Variable, ...]
        No two texts and no two variables stand side by side, except where the second variable's first character is known.
    """

    parts: tuple[Part, ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Read a line of a configuration: nginx's `log_format`, Apache's `LogFormat`, Envoy's or HAProxy's format.

        The whole directive, or only the form itself, with or without its quotes. The variables of all four are called as in
        nginx.

        Raises
        ------
        FormatMismatchError
            If it is none of these, or nothing tells where a variable ends.
        """
        if len(text) > MAX_LENGTH:
            raise FormatMismatchError(f"the log format has {len(text)} characters; at most {MAX_LENGTH} are read")
        return cls.of(template_dialects.parts(text))

    @classmethod
    def of(cls, parts: Iterable[Part]) -> Template:
        """Make a template of text and variables, and check that each variable's end can be told.

        Raises
        ------
        FormatMismatchError
            If it has no variable, or too many, or two side by side.
        """
        named = _numbered(_joined(parts))
        if not any(isinstance(part, Variable) for part in named):
            raise FormatMismatchError(
                "the log format has no variable ($remote_addr as in nginx, %h as in Apache, %PROTOCOL% as in Envoy); "
                "paste the log_format or LogFormat line of the server's configuration"
            )
        if len(named) > MAX_PARTS:
            raise FormatMismatchError(f"the log format has more than {MAX_PARTS} parts")
        return cls(tuple(named))

    @property
    def names(self) -> tuple[str, ...]:
        """The variables' names, in order."""
        return tuple(part.name for part in self.parts if isinstance(part, Variable))

    def __str__(self) -> str:
        written = "".join(self._written())
        return re.sub(r"\A(?=')|(?=;\Z)", r"\\", written)  # which else are quotes and the end of a directive

    def _written(self) -> Iterator[str]:
        for part, after in zip(self.parts, (*self.parts[1:], ""), strict=True):
            if isinstance(part, Variable):
                glued = isinstance(after, str) and re.match(r"\w", after)
                yield f"${{{part.name}}}" if glued else f"${part.name}"
            else:
                yield re.sub(r"[\\$]", r"\\\g<0>", part).replace("\t", "\\t").replace("\n", "\\n")

    def splitter(self) -> TemplateSplitter:
        """Make the splitter that cuts lines of this form.

        Where the parts of a request stand in quotes, what a client sent instead of one is the field `request`.
        """
        return TemplateSplitter([self, *self._lenient()])

    def misfit(self, line: str) -> str:
        """Say in a clause where a line that does not fit leaves the form."""
        data = line.encode()
        place, end, before = 0, len(data), ""
        for kind, name, literal, flags in self.steps():
            step = (literal, 0, len(literal))
            stop = place if kind < 0 else kernel.field(kind, data, place, end, *step, bool(flags & kernel.WITHIN))
            behind = stop if flags & kernel.AHEAD or not 0 <= stop <= end else kernel.after(data, stop, end, *step)
            if not 0 <= behind <= end or not 0 <= stop <= end:
                shown = printable(data[place : place + SHOWN].decode("utf-8", "replace"))
                where = f"behind ${before}" if before else "at its beginning"
                then = literal.replace(b"\0", b"  ").decode()
                expected = (
                    f"${name} and then {printable(then)!r}"
                    if name and then
                    else f"${name}"
                    if name
                    else repr(printable(then))
                )
                return f"{where} it has {shown!r}, where the form has {expected}"
            place, before = behind, name or before
        return f"behind ${before} it goes on with {printable(data[place : place + SHOWN].decode('utf-8', 'replace'))!r}"

    def _lenient(self) -> Iterator[Template]:
        """Yield the same with one `request` for the parts in quotes that make one."""
        written = str(self)
        found = re.search(r'"\$request_method \$(?:request_uri|uri) \$server_protocol"', written)
        if found and "request" not in self.names:
            yield Template.parse(written[: found.start()] + '"$request"' + written[found.end() :])

    def steps(self) -> Iterator[tuple[int, str, bytes, int]]:
        """Yield what `template_kernel.cut` needs: the kind, the name, the literal behind it, and the flags of each field."""
        quoted = False
        if isinstance(self.parts[0], str):
            yield -1, "", _encoded(self.parts[0]), 0
        before = ""
        for i, part in enumerate(self.parts):
            if isinstance(part, str):
                quoted ^= part.count('"') % 2 == 1
                before = part
                continue
            after = self.parts[i + 1] if i + 1 < len(self.parts) else ""
            flags = kernel.WITHIN if quoted else 0
            if isinstance(after, Variable):
                yield kernel.TEXT, part.name, _begins(after.name), flags | kernel.AHEAD
                before = ""
            else:
                yield _kind(part.name, before, after, quoted), part.name, _encoded(after), flags


def _joined(parts: Iterable[Part]) -> list[Part]:
    """Join what stands side by side: texts, and a path with its query; raises FormatMismatchError for other variables."""
    joined: list[Part] = []
    for part in parts:
        if not part:
            continue
        before = joined[-1] if joined else ""
        if isinstance(part, str) and isinstance(before, str):
            joined[-1:] = [before + part]
        elif isinstance(part, Variable) and isinstance(before, Variable) and part.name in _QUERIES and before.name in _PATHS:
            joined[-1] = Variable("request_uri")
        elif isinstance(part, Variable) and isinstance(before, Variable) and not _begins(part.name):
            raise FormatMismatchError(
                f"the log format has ${before.name} and ${part.name} side by side, so that nothing tells where the first "
                "ends; put a blank between them where the log has one, or make them one variable"
            )
        else:
            joined.append(part)
    if joined and isinstance(end := joined[-1], str):
        joined[-1] = end.rstrip("\r\n")
    return [part for part in joined if part]


def _numbered(parts: Iterable[Part]) -> list[Part]:
    """Give each variable a name of its own: "status", "status_2"."""
    seen: Counter[str] = Counter()
    named: list[Part] = []
    for part in parts:
        if isinstance(part, Variable):
            seen[part.name] += 1
            part = Variable(f"{part.name}_{seen[part.name]}") if seen[part.name] > 1 else part
        named.append(part)
    return named


def is_number(name: str) -> bool:
    """Tell whether a field of this name holds digits, dots and signs alone."""
    return _NUMBERS.fullmatch(_without_number(name)) is not None


def _begins(name: str) -> bytes:
    """Return the character with which each value of a variable begins, if that is known."""
    return _BEGINS.get(_without_number(name), b"")


def _without_number(name: str) -> str:
    return re.sub(r"_[0-9]+\Z", "", name)


def _encoded(literal: str) -> bytes:
    return re.sub(" {2,}", "\0", literal).encode()


def _kind(name: str, before: str, after: str, quoted: bool) -> int:
    name = _without_number(name)
    if name == "status":
        return kernel.STATUS
    if quoted and before.endswith('"') and after.startswith('"'):
        return kernel.QUOTED
    if quoted or (before.endswith("[") and after.startswith("]")):
        return kernel.TEXT
    if _LISTS.fullmatch(name):
        return kernel.LIST
    if is_number(name):
        return kernel.NUMBER
    blank = after in ("", " ") or after.startswith("  ")
    if name == "remote_user":
        return kernel.USER
    if _TIMES.fullmatch(name) and (not after or after[0] == " "):
        return kernel.TIME
    if name == "request" and blank:
        return kernel.REQUEST
    return kernel.WORD if not after and not _TEXTS.fullmatch(name) else kernel.TEXT
