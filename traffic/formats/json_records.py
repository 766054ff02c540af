"""JSON: one object on each line, or an array of objects, or objects one after the other, pretty printed or not.

An array may be inside of an object, as in the answers of services ("Records", "hits"). A field is a name, or a path of names
with dots: "user.id".

A field that has just that name, dots and all, goes before a path. A step may be the number of a list's element, and leads
into the JSON of a text as well ("message.status" where the message is itself spelled JSON). Only the fields that are needed
are decoded. A line that is not valid JSON is repaired where its meaning is certain; see `repaired`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from traffic.formats import json_kernel
from traffic.formats.base import Block, Fields, Format, FormatMismatchError, excerpt
from traffic.formats.compiled import compiled_function

Steps = tuple[str, ...]

# Names of fields are taken from so many of the first objects, and from as many spread over the rest of the first block.
FIRST_OBJECTS = 100
MAX_NAMES = 1000
# A log whose first lines are objects to this part is JSON; programs write other lines beside them.
OBJECTS = 0.2
# A text whose first lines are objects to a lesser part than this may be objects of several lines, or lines of several.
WHOLE = 0.5
# An object that is longer is lost.
RECORD_BYTES = 1 << 21
# Below this many bytes plain Python is sooner done than numba is imported.
SMALL = 1 << 17
PUNCTUATION = frozenset((b"[", b"]", b",", b"],", b"};", b"];"))


class _Named:
    """The fields of objects, and decoders of those that are needed."""

    def __init__(self, paths: Mapping[str, Sequence[Steps]]) -> None:
        self._paths = paths
        self.names = tuple(self._paths)
        self._decoders: dict[frozenset[str], _Decoder] = {}

    def _decoder(self, needed: Collection[str]) -> _Decoder:
        wanted = frozenset(needed)
        if wanted not in self._decoders:
            self._decoders[wanted] = _Decoder({name: self._candidates(name) for name in wanted})
        return self._decoders[wanted]

    def _candidates(self, name: str) -> list[Steps]:
        """List the steps to a field: its very name, as seen in the sample, and the name split at its dots."""
        seen = self._paths.get(name, ())
        typed = [steps for steps in seen if steps[-1].startswith("$")]
        return list(dict.fromkeys((*typed, (name,), *seen, tuple(name.split(".")))))


class JSONLines(_Named):
    """Splits lines that are objects. A line that holds only a bracket or comma of an array around them is ignored."""

    in_order = False

    def split(self, block: Block, needed: Collection[str]) -> Fields:
        """Return the objects of the block's lines."""
        decoder = self._decoder(needed)
        objects, line, skipped, ignored = _objects(_bare(block.data), decoder)
        return Fields(decoder.columns(objects), line + block.line, skipped, ignored)

    def close(self, needed: Collection[str]) -> None:
        """Return None; nothing is held back."""


class JSONStream(_Named):
    """Splits a text into the objects that are inside of `level` brackets. A record is counted as one line."""

    in_order = True

    def __init__(self, paths: Mapping[str, Sequence[Steps]], level: int, indent: int) -> None:
        super().__init__(paths)
        self._level = level
        self._indent = indent
        self._state = np.zeros(3, np.int64)
        self._held = b""
        self._next = 1

    def split(self, block: Block, needed: Collection[str]) -> Fields:
        """Return the objects that end in the block; one that the next block may end is held back."""
        self._next = block.line + block.data.count(b"\n")
        return self._split(self._held + _bare(block.data), block.line - self._held.count(b"\n"), needed, last=False)

    def close(self, needed: Collection[str]) -> Fields | None:
        """Return the object that was held back, which is not closed, as a lost line."""
        held, self._held = self._held, b""
        return self._split(held, self._next - held.count(b"\n"), needed, last=True) if held else None

    def _split(self, data: bytes, first: int, needed: Collection[str], *, last: bool) -> Fields:
        decoder = self._decoder(needed)
        starts, stops, rest = _found_objects(data, self._state, self._level, self._indent, last=last)
        self._held = data[rest:]
        texts, begins, lost = _texts(data[:rest], starts, stops, between=self._level == 0)
        if len(self._held) > RECORD_BYTES:
            lost.append(_shown(self._held))
            self._held = b""
            self._state[json_kernel.LOST] = 1
        objects, places, skipped, _ = _objects(texts, decoder)
        breaks = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
        line = np.searchsorted(breaks, begins[places])
        return Fields(decoder.columns(objects), line + first, [*skipped, *lost])


def _bare(data: bytes) -> bytes:
    """Leave out the marks before the records of RFC 7464, which strings cannot hold."""
    return data.replace(b"\x1e", b"") if b"\x1e" in data else data


def _shown(line: bytes) -> str:
    return excerpt(line.strip()).split("\n")[0]


def _found_objects(
    data: bytes, state: NDArray[np.int64], level: int, indent: int, *, last: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return where the objects of a text start and stop (see `json_kernel.find`), and where the next block begins."""
    room = data.count(b"{") + 1
    if len(data) < SMALL:
        known, begins, ends = state.tolist(), [0] * room, [0] * room
        count, rest = json_kernel.find(data, known, level, indent, last, begins, ends)
        state[:] = known
        return np.array(begins[:count], np.int64), np.array(ends[:count], np.int64), rest
    starts, stops = np.empty(room, np.int64), np.empty(room, np.int64)
    find = compiled_function(json_kernel.find)
    count, rest = find(np.frombuffer(data, np.uint8), state, level, indent, last, starts, stops)
    return starts[:count], stops[:count], rest


def _texts(
    data: bytes, starts: NDArray[np.int64], stops: NDArray[np.int64], *, between: bool
) -> tuple[bytes, NDArray[np.int64], list[str]]:
    """Write each object on a line.

    Also return where these begin, and the lines that are lost: damaged objects, and text between objects, if asked for.
    """
    flat = data.replace(b"\n", b" ")
    texts, lost = [], []
    end = 0
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        if between and 0 <= end < start:
            lost += _between(data[end:start])
        if stop > 0:
            texts.append(flat[start:stop])
        else:
            lost.append(_shown(data[start:-stop]))
        end = stop
    if between and 0 <= end < len(data):
        lost += _between(data[end:])
    texts.append(b"")
    return b"\n".join(texts), starts[stops > 0], lost


def _between(text: bytes) -> list[str]:
    if not text.strip(b" \t\n,[]"):
        return []
    return [_shown(line) for line in text.split(b"\n") if line.strip(b" \t,[]")]


class _Decoder:
    """Decodes the needed fields of objects, of which there are one or several candidates each."""

    def __init__(self, candidates: Mapping[str, Sequence[Steps]]) -> None:
        tree = _Node([steps for several in candidates.values() for steps in several])
        self.line = msgspec.json.Decoder(tree.type)
        self.convert = tree.type
        self._getters = {name: [tree.getter(steps) for steps in several] for name, several in candidates.items()}

    def columns(self, objects: list[Any]) -> dict[str, pa.Array]:
        """Make a column of each field; the first candidate that an object has is its value."""
        return {name: column(self._values(objects, getters)) for name, getters in self._getters.items()}

    def _values(self, objects: list[Any], getters: Sequence[_Getter]) -> list[Any]:
        values = getters[0](objects)
        for getter in getters[1:]:
            if all(value is None for value in values):
                values = getter(objects)
            elif None in values:
                others = getter(objects)
                values = [other if value is None else value for value, other in zip(values, others, strict=True)]
        return values


class _Node:
    """The type of a value, some of whose fields are needed."""

    def __init__(self, paths: Iterable[Steps]) -> None:
        groups: dict[str, list[Steps]] = {}
        whole = False
        for steps in paths:
            if steps:
                groups.setdefault(steps[0], []).append(steps[1:])
            else:
                whole = True
        self.fields: dict[str, tuple[str, _Node]] = {}
        self.type: Any = Any
        if whole or any(not _nameable(name) for name in groups):
            return
        definitions: list[Any] = []
        for i, (name, rest) in enumerate(groups.items()):
            node = _Node(rest)
            self.fields[name] = f"f{i}", node
            inner = node.type
            if inner is Any:
                definitions.append((f"f{i}", Any, None))
            else:
                union = inner | None | str | int | float | bool | list[Any]
                definitions.append((f"f{i}", union, inner()))
        rename = {attribute: name for name, (attribute, _) in self.fields.items()}
        self.type = msgspec.defstruct("Record", definitions, rename=rename, gc=False, frozen=True)

    def getter(self, steps: Steps) -> _Getter:
        node = self
        nodes = []
        while steps and node.type is not Any:
            attribute, node = node.fields[steps[0]]
            nodes.append((attribute, node))
            steps = steps[1:]
        return _Getter(nodes, steps)

    def opened(self, text: str) -> Any:
        """Decode JSON that is spelled in a text; None if it is none."""
        try:
            return msgspec.json.decode(text, type=self.type)
        except (ValueError, RecursionError):
            return None


def _nameable(name: str) -> bool:
    """Tell whether a struct may have a field of this name, which could also not be an element's number."""
    return not name.isdecimal() and not re.search(r'["\\\x00-\x1f]|[\ud800-\udfff]', name)


class _Getter:
    """Gives one value of each object: attributes of structs, then steps into what was decoded as a whole."""

    def __init__(self, nodes: list[tuple[str, _Node]], steps: Steps) -> None:
        self._nodes = nodes
        self._fast = attrgetter(".".join(attribute for attribute, _ in nodes)) if nodes else None
        self._steps = steps

    def __call__(self, objects: list[Any]) -> list[Any]:
        if self._fast is None:
            values = objects
        else:
            try:
                values = list(map(self._fast, objects))
            except AttributeError:  # an object has a number or a text where others have an object
                values = [self._slow(value) for value in objects]
        return [_found(value, self._steps) for value in values] if self._steps else values

    def _slow(self, value: Any) -> Any:
        node: _Node | None = None
        for attribute, inner in self._nodes:
            if node is not None and isinstance(value, str) and value.startswith("{"):
                value = node.opened(value)
            value = getattr(value, attribute, None)
            node = inner
        return value


def _found(value: Any, steps: Steps) -> Any:
    for step in steps:
        if isinstance(value, str) and value.startswith("{"):
            value = parsed(value)
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _objects(data: bytes, decoder: _Decoder) -> tuple[list[Any], Any, list[str], int]:
    """Return the objects of lines, the places of their lines, the lines that are none, and the count of those ignored."""
    n = data.count(b"\n")
    try:
        plain = data
        objects = decoder.line.decode_lines(data)
    except (ValueError, RecursionError):
        try:
            # A comma between the elements of an array ends no line of anything else.
            plain = data.replace(b"},\n", b"}\n")
            objects = decoder.line.decode_lines(plain)
        except (ValueError, RecursionError):
            objects = []
    dicts = decoder.convert is not Any or all(isinstance(value, dict) for value in objects)
    if n and len(objects) == n and dicts and _one_per_line(plain):
        return objects, np.arange(n), [], 0
    objects, places, skipped, ignored = [], [], [], 0
    for place, line in enumerate(data.split(b"\n")):
        line = line.strip()
        if not line:
            continue
        value = _decoded(line, decoder)
        if value is not None:
            objects.append(value)
            places.append(place)
        elif line in PUNCTUATION:
            ignored += 1
        else:
            skipped.append(_shown(line))
    return objects, np.array(places, np.int64), skipped, ignored


def _one_per_line(data: bytes) -> bool:
    """Tell whether as many valid objects as there are lines are one in each: the decoder takes any blanks between them."""
    text = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(text == ord("\n"))
    begins = np.concatenate(([0], ends[:-1] + 1))
    return bool((text[begins] == ord("{")).all() and (text[ends - 1] == ord("}")).all())


def _decoded(line: bytes, decoder: _Decoder) -> Any:
    """Decode one line, repaired if need be; None if it is no object."""
    text = _object_text(line.decode("utf-8", "backslashreplace"))
    if not text:
        return None
    for spelled in (str, repaired):
        try:
            value = decoder.line.decode(spelled(text))
        except (ValueError, RecursionError):
            continue
        return value if decoder.convert is not Any or isinstance(value, dict) else None
    # Python's own parser knows NaN, halves of characters, and numbers of any size.
    value = parsed(text)
    return value if value is None or decoder.convert is Any else _struct(value, decoder.convert)


def _struct(value: Any, type_: Any) -> Any:
    """Make a struct of an object, as the decoder would."""
    fields = {}
    for field in msgspec.structs.fields(type_):
        if field.encode_name in value:
            inner = value[field.encode_name]
            nested = type(field.default)
            if isinstance(inner, dict) and issubclass(nested, msgspec.Struct):
                inner = _struct(inner, nested)
            fields[field.name] = inner
    return type_(**fields)


def _object_text(line: str) -> str:
    """Return a line without the brackets and commas of an array around it; "" if it is no object."""
    text = line.strip().removeprefix("[").removesuffix(";").rstrip()
    if text.endswith(("},", "}]")):
        text = text[:-1]
    text = text.removeprefix(",").lstrip()
    return text if text.startswith("{") else ""


def parsed(line: str) -> dict[str, Any] | None:
    """Parse an object; None if it is none, even repaired."""
    text = _object_text(line)
    for spelled in (str, repaired) if text else ():
        try:
            value = json.loads(spelled(text), strict=False)
        except (ValueError, RecursionError):  # the latter of brackets nested thousands deep
            continue
        return value if isinstance(value, dict) else None
    return None


# A string, or what is wrong outside of strings. It never backtracks, takes a string that is not closed for the rest of the
# line, and looks only so far ahead in a list, so that a line costs its length.
TOKENS = re.compile(
    r'"(?:[^"\\]|\\.)*+"?'
    r'|:\s*+-?\s*+(?=,\s*+"|[}\]])'
    r"|,\s*+(?=[}\]])"
    r'|:\s*+(?!(?:-?[0-9]++(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?|true|false|null|NaN|-?Infinity)\s*+(?:,\s*+"|\}))'
    r'(?P<text>[^\s",{}\[\]][^"{}\[\]]{0,80}?)(?=\s*+(?:,\s*+"|\}))',
    re.DOTALL,
)
ESCAPES = re.compile(r'((?:\\x[0-9A-Fa-f]{2})++)|\\(["\\/bfnrt]|u[0-9A-Fa-f]{4})|\\')


def repaired(text: str) -> str:
    r"""Mend what programs without a JSON writer do to it, where the meaning is certain.

    Bytes spelled \x22, as nginx escapes without `escape=json`, are characters. A backslash before anything that JSON does
    not escape is a backslash. A value that is empty or "-" without quotes is null. Anything else without quotes is text (a
    stamp, an address, nginx's times of several upstreams). A comma before a closing bracket is none.
    """
    return TOKENS.sub(_token, text)


def _token(match: re.Match[str]) -> str:
    token = match[0]
    if token.startswith('"'):
        return ESCAPES.sub(_escape, token) if "\\" in token else token
    if match["text"]:
        return ":" + json.dumps(match["text"], ensure_ascii=False)
    return ":null" if token.startswith(":") else ""


def _escape(match: re.Match[str]) -> str:
    if match[1]:
        raw = bytes.fromhex(match[1].replace("\\x", ""))
        return json.dumps(raw.decode("utf-8", "backslashreplace"))[1:-1]
    return match[0] if match[2] else "\\\\"


def column(values: list[Any]) -> pa.Array:
    """Make a column of values: int64 or float64 if all are numbers, else text, spelled as in JSON."""
    try:
        array = pa.array(values)
    except (pa.ArrowException, ValueError, OverflowError):  # mixed types, halves of characters, integers above 64 bits
        array = None
    if array is not None and (pa.types.is_string(array.type) or array.type in (pa.int64(), pa.float64())):
        return array
    return pa.array([_spelled(value) for value in values], pa.string())


def _spelled(value: Any) -> str | None:
    """Spell a value: text as it is, several texts as a list with commas, numbers and the rest as in JSON."""
    if value is None:
        return None
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        value = ", ".join(value)
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    # JSON can spell halves of a character, which no file could hold.
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _paths(objects: Sequence[Any]) -> dict[str, list[Steps]]:
    """List the steps to every field, by its path, in order of appearance; those of an inner object stand in its place.

    MongoDB's spelling of types, such as {"$date": ...}, is no part of the path.
    """
    paths: dict[str, list[Steps]] = {}
    left: list[tuple[str, Steps, Any]] = [("", (), value) for value in reversed(objects)]
    while left and len(paths) < MAX_NAMES:
        path, steps, value = left.pop()
        if isinstance(value, str) and steps and value.startswith("{"):
            value = parsed(value) or value
        if isinstance(value, dict):
            for name, inner in reversed(value.items()):
                typed = path and len(value) == 1 and name.startswith("$")
                left.append((path if typed else f"{path}.{name}" if path else name, (*steps, name), inner))
        else:
            several = paths.setdefault(path, [])
            if steps not in several:
                several.append(steps)
    return paths


def _sample(lines: Sequence[bytes]) -> Iterator[dict[str, Any] | None]:
    """Parse the first lines, and as many of the rest, spread evenly; None for one that is no object."""
    rest = lines[FIRST_OBJECTS:]
    for line in (*lines[:FIRST_OBJECTS], *rest[:: max(1, len(rest) // FIRST_OBJECTS)]):
        yield parsed(line.decode("utf-8", "backslashreplace").lstrip("\x1e"))


PYTHON = re.compile(rb"\{'[^'\n]*': ")
LOKI = re.compile(rb'\s*\{\s*"status"\s*:\s*"success"\s*,\s*"data"\s*:\s*\{\s*"resultType"\s*:')
ARRAY_LINE = re.compile(rb"\[\s*\{.*\]\s*,?", re.DOTALL)
# Arrays of records in the answers of services: CloudTrail and other logs in S3, Azure, CloudWatch, Google, Elasticsearch.
ENVELOPE = re.compile(
    rb'"(?:records|logs|logEvents|events|entries|value|values|hits|items|results|data|messages)"\s*:\s*\[\s*(?=\{)',
    re.IGNORECASE,
)
# Of an object that is alone, whatever the array is called.
ARRAY = re.compile(rb'"\s*:\s*\[\s*(?=\{)')
TIMES = re.compile(rb'"(?:@?timestamp|_?time|ts|date|datetime|started_at|start_time|eventTime)"\s*:', re.IGNORECASE)
ENVELOPE_BYTES = 1 << 16
MOST_BRACKETS = 60


def _splitter(block: Block) -> JSONLines | JSONStream | None:
    make = _recognized(block.data)
    return make() if make is not None else None


@lru_cache(maxsize=2)  # each named format of JSON asks for the same first lines
def _recognized(data: bytes) -> Callable[[], JSONLines | JSONStream] | None:
    """Return what makes a splitter of a log that begins so; None if it is no JSON."""
    data = _bare(data)
    lines = [line for line in map(bytes.strip, data.split(b"\n")) if line and line not in PUNCTUATION]
    if lines and PYTHON.match(lines[0]):
        raise FormatMismatchError("has Python's spelling of dictionaries, not JSON; write each with json.dumps")
    if LOKI.match(data):
        raise FormatMismatchError("is an answer of Loki's API; write lines with logcli --output=jsonl")
    sample = list(_sample(lines))
    objects = [value for value in sample if value]
    share = len(objects) / max(1, len(sample))
    level = _level(data, ENVELOPE)
    alone = not level and (share <= WHOLE or len(lines) == 1) and data.lstrip().startswith(b"{")
    if alone and len(_found_objects(data, np.zeros(3, np.int64), 0, -1, last=True)[0]) == 1:
        _refuse_table(parsed(data.decode("utf-8", "backslashreplace")))
        level = _level(data, ARRAY)
    arrays = level == 1 and any(ARRAY_LINE.fullmatch(line) for line in lines[:FIRST_OBJECTS])
    if share <= WHOLE or level > 1 or arrays:
        stream = _stream(data, level)
        if stream is not None:
            return stream
    return partial(JSONLines, _paths(objects)) if share > OBJECTS else None


def _refuse_table(value: dict[str, Any] | None) -> None:
    """Refuse an object that holds many records in a way that is not read, rather than read it as one."""
    values = list(value.values()) if value else []
    lists = [part for part in values if isinstance(part, list)]
    dicts = [part for part in values if isinstance(part, dict)]
    columns = len(lists) == len(values) > 1 and len({len(part) for part in lists}) == 1 < len(lists[0])
    named = len(dicts) == len(values) > 1 and len(set.intersection(*map(set, dicts))) > 1
    if columns or named or (value and {"columns", "data"} <= set(value)):
        raise FormatMismatchError("is one object of many records; write each as an object of its own, one on each line")


def _level(data: bytes, envelope: re.Pattern[bytes]) -> int:
    """Return how many brackets are around the records of a text: those of an array, and of objects around it."""
    data = data.lstrip()
    if data.startswith(b"["):
        return 1
    for found in envelope.finditer(data[:ENVELOPE_BYTES]):
        above = data[: found.end()]
        if TIMES.search(above):  # it is a record itself
            return 0
        starts, _, begun = _found_objects(above, np.zeros(3, np.int64), 0, -1, last=False)
        if len(starts) or begun:  # of another object
            return 0
        brackets = np.zeros(3, np.int64)
        _found_objects(above, brackets, MOST_BRACKETS, -1, last=False)
        return int(brackets[json_kernel.DEPTH])
    return 0


def _stream(data: bytes, level: int) -> Callable[[], JSONStream] | None:
    if not data.lstrip().startswith((b"{", b"[")):
        return None
    starts, stops, _ = _found_objects(data, np.zeros(3, np.int64), level, -1, last=False)
    if not len(starts) or stops[0] < 0:
        return None
    indent = _indent(data, int(starts[0]), int(stops[0]))
    starts, stops, _ = _found_objects(data, np.zeros(3, np.int64), level, indent, last=False)
    sample = list(
        _sample([data[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True) if stop > 0])
    )
    objects = [value for value in sample if value]
    return partial(JSONStream, _paths(objects), level, indent) if len(objects) > WHOLE * len(sample) else None


def _indent(data: bytes, start: int, stop: int) -> int:
    """Return how many blanks are before a record's first line, if its other lines have more; -1 if that tells nothing."""
    begins = data.rfind(b"\n", 0, start) + 1
    ends = data.find(b"\n", stop)
    if data[begins:start].strip(b" \t") or data[stop:ends].strip(b" \t,"):
        return -1
    indent = start - begins
    inner = data[start:stop].split(b"\n")[1:-1]
    return indent if all(len(line) - len(line.lstrip(b" \t")) > indent for line in inner) else -1


JSON = Format(
    name="jsonl",
    title="JSON, one object on each line",
    example='{"time": "2024-05-10T06:25:24.512Z", "client": "203.0.113.7", "status": 200, "user": {"id": "acme"}}',
    source="https://jsonlines.org",
    splitter=_splitter,
)
