"""The loop over bytes that finds the fields of a template in the lines of a block.

The functions are plain Python and are compiled by numba for blocks that are worth it. A field ends where the
text behind it in the template begins; its kind says what it may hold. Nothing is tried twice, so a line costs its length.
"""

from __future__ import annotations

from typing import Any

# The kinds of fields. TEXT: anything; QUOTED: up to the quote that is not escaped; WORD: no blank, and nothing behind it;
# NUMBER: digits, dots and signs; STATUS: three digits, or 0, - or -1; LIST: words joined by ", " and " : "; USER: anything,
# or a text in quotes of its own; TIME: a word, and the words behind it that go on with a time; REQUEST: method, path, and
# HTTP/x where it is there.
TEXT, QUOTED, WORD, NUMBER, STATUS, LIST, USER, TIME, REQUEST = range(9)
BLANKS = 0
"""Stands for one or more blanks in the text between fields, since no block has a zero byte."""
AHEAD, WITHIN = 1, 2
NO_FIT, EMPTY = -1, -2


def after(data: Any, p: int, end: int, literals: Any, first: int, size: int) -> int:
    """Return the place behind the literal that begins at p; -1 where there is another text."""
    for i in range(first, first + size):
        if literals[i] == 0:
            if p >= end or data[p] != 32:
                return -1
            while p < end and data[p] == 32:
                p += 1
        elif p < end and data[p] == literals[i]:
            p += 1
        else:
            return -1
    return p


def _up_to(data: Any, p: int, end: int, literals: Any, first: int, size: int, guarded: bool) -> int:
    """Return the place where the literal begins, which must lie before the next quote if `guarded`; -1 for none."""
    if size == 0:
        return end
    head = literals[first] if literals[first] != 0 else 32
    while p < end:
        if data[p] == head and (size == 1 or after(data, p, end, literals, first, size) >= 0):
            return p
        if guarded:
            if data[p] == 34:
                return -1
            if data[p] == 92:
                p += 1
        p += 1
    return -1


def _quote(data: Any, p: int, end: int) -> int:
    """Return the place of the next quote that no backslash escapes; -1 for none."""
    while p < end:
        if data[p] == 34:
            return p
        p += 2 if data[p] == 92 else 1
    return -1


def _digit(data: Any, p: int, end: int) -> bool:
    return p < end and 48 <= data[p] <= 57


def _word(data: Any, p: int, end: int) -> int:
    """Return where a word ends: at a blank or the line's end; -1 for none."""
    start = p
    while p < end and data[p] != 32:
        p += 1
    return p if p > start else -1


def _number(data: Any, p: int, end: int) -> int:
    start = p
    while p < end and (48 <= data[p] <= 57 or data[p] == 46 or data[p] == 45 or data[p] == 43):
        p += 1
    return p if p > start else -1


def _status(data: Any, p: int, end: int) -> int:
    if _digit(data, p, end):
        three = _digit(data, p + 1, end) and _digit(data, p + 2, end) and not _digit(data, p + 3, end)
        return p + 3 if three else p + 1 if data[p] == 48 and not _digit(data, p + 1, end) else -1
    if p < end and data[p] == 45:
        return p + 2 if p + 1 < end and data[p + 1] == 49 and not _digit(data, p + 2, end) else p + 1
    return -1


def _list(data: Any, p: int, end: int, literals: Any, first: int, size: int) -> int:
    """Return where words joined by ", " or " : " end; before the last colon of an address where a port is behind it."""
    start = p
    head = 32 if size == 0 or literals[first] == 0 else literals[first]
    if size == 1 and head == 58:
        colon_at = -1
        while p < end and (
            48 <= data[p] <= 58 or data[p] == 46 or 97 <= data[p] | 32 <= 102 or data[p] == 91 or data[p] == 93
        ):
            if data[p] == 58:
                colon_at = p
            p += 1
        if colon_at > start:
            return colon_at
        p = start
    while p < end:
        joined = p > start and data[p - 1] == 44
        colon = data[p] == 32 and p + 2 < end and data[p + 1] == 58 and data[p + 2] == 32
        if data[p] == head and p > start and not joined:
            if size > 1 and after(data, p, end, literals, first, size) >= 0:
                return p
            if size <= 1 and not colon:
                return p
        if colon:
            p += 3
        elif data[p] == 32 and not joined:
            return -1
        else:
            p += 1
    return end if size == 0 and end > start else -1


def _goes_on(data: Any, p: int, end: int) -> bool:
    """Tell whether the word at p goes on with a time: "+0200", "-03:00", "+00", "10:05:03", "UTC", "GMT", "AM", "PM"."""
    if p + 1 >= end:
        return False
    if data[p] == 43 or data[p] == 45:
        if not (_digit(data, p + 1, end) and _digit(data, p + 2, end)):
            return False
        q = p + 3
        if q >= end or data[q] == 32:
            return bool(data[p] == 43)
        if data[q] == 58:
            q += 1
        return _digit(data, q, end) and _digit(data, q + 1, end)
    if _digit(data, p, end):
        colon = _digit(data, p + 1, end) and p + 2 < end and data[p + 2] == 58
        return colon and _digit(data, p + 3, end) and _digit(data, p + 4, end)
    if p + 2 >= end or data[p + 2] == 32:
        return bool((data[p] == 65 or data[p] == 80) and data[p + 1] == 77)
    utc = data[p] == 85 and data[p + 1] == 84 and data[p + 2] == 67
    gmt = data[p] == 71 and data[p + 1] == 77 and data[p + 2] == 84
    return bool(utc or gmt)


def _time(data: Any, p: int, end: int) -> int:
    """Return where a time ends that may have blanks."""
    if p >= end or data[p] == 32:
        return -1
    while p < end:
        while p < end and data[p] != 32:
            p += 1
        if p >= end or not _goes_on(data, p + 1, end):
            break
        p += 1
    return p


def _request(data: Any, p: int, end: int) -> int:
    """Return where a request without quotes ends: behind its path, or behind the HTTP/x that follows it."""
    start = p
    while p < end and data[p] != 32:
        p += 1
    if p - start == 1 and data[start] == 45:
        return p
    path = p + 1
    p = path
    while p < end and data[p] != 32:
        p += 1
    if p <= path:
        return -1
    q = p + 1
    http = (
        q + 4 < end and data[q] == 72 and data[q + 1] == 84 and data[q + 2] == 84 and data[q + 3] == 80 and data[q + 4] == 47
    )
    if not http:
        return p
    while q < end and data[q] != 32:
        q += 1
    return q


def field(kind: int, data: Any, p: int, end: int, literals: Any, first: int, size: int, guarded: bool) -> int:
    """Return where the field that begins at p ends; -1 where it is none of its kind."""
    if kind == 1:
        return _quote(data, p, end)
    if kind == 2:
        return _word(data, p, end)
    if kind == 3:
        return _number(data, p, end)
    if kind == 4:
        return _status(data, p, end)
    if kind == 5:
        return _list(data, p, end, literals, first, size)
    if kind == 7:
        return _time(data, p, end)
    if kind == 8:
        return _request(data, p, end)
    return _up_to(data, p, end, literals, first, size, guarded)


def _balanced(data: Any, p: int, end: int) -> bool:
    """Tell whether each quote that is opened is closed."""
    while True:
        p = _quote(data, p, end)
        if p < 0:
            return True
        p = _quote(data, p + 1, end)
        if p < 0:
            return False
        p += 1


def cut(data: Any, ends: Any, program: Any, literals: Any, results: Any) -> None:
    """Find the fields of each line.

    Parameters
    ----------
    data : bytes or NDArray[np.uint8]
        The block.
    ends : sequence of int, shape (n,)
        Where each line's line feed is.
    program : (kinds, columns, firsts, sizes, flags, bounds), sequences of int
        The fields of all templates: what each is, its row of `starts` and `stops` (-1: not needed), the literal behind it.
        Flags: AHEAD, where the next field begins with that literal, and WITHIN, where it is a part of a text in quotes.
        Kind -1 is a literal alone, with which a template begins.
        `bounds` says where the fields of each template begin, and where the last one's end.
    literals : bytes or NDArray[np.uint8]
        Text of all literals.
    results : (starts, stops, fits)
        Two arrays of shape (columns, n): where each field lies in `data`, filled with -1 before; the last row is the rest
        of the line behind the template. One of shape (n,): the number of the first template that fits the line; NO_FIT for
        none, EMPTY for a blank line.
    """
    kinds, columns, firsts, sizes, flags, bounds = program
    starts, stops, fits = results
    rest = len(starts) - 1
    begin = 0
    for row in range(len(ends)):
        end = ends[row]
        fits[row] = -1
        for template in range(len(bounds) - 1):
            p = begin
            for step in range(bounds[template], bounds[template + 1]):
                kind, column, first, size, flag = kinds[step], columns[step], firsts[step], sizes[step], flags[step]
                if kind >= 0:
                    start = p
                    stop = -1
                    if kind == 6 and p < end and data[p] == 34:
                        stop = _quote(data, p + 1, end)
                        if stop >= 0 and (size or stop + 1 == end or data[stop + 1] == 32):
                            p = after(data, stop + 1, end, literals, first, size)
                            if p < 0:
                                stop = -1
                            else:
                                start += 1
                        else:
                            stop = -1
                    if stop < 0:
                        stop = field(kind, data, start, end, literals, first, size, flag & 2 != 0)
                        if stop < 0 or stop > end:
                            p = -1
                            break
                        p = after(data, stop, end, literals, first, size) if flag & 1 == 0 else stop
                    if p < 0:
                        break
                    if column >= 0:
                        starts[column, row] = start
                        stops[column, row] = stop
                else:
                    p = after(data, p, end, literals, first, size)
                    if p < 0:
                        break
            if p >= 0 and p < end:
                behind = p + 1
                while p < end and (data[p] == 32 or data[p] == 9):
                    p += 1
                if p >= behind and (p == end or _balanced(data, p, end)):
                    if p < end:
                        starts[rest, row] = behind
                        stops[rest, row] = end
                else:
                    p = -1
            if p >= 0:
                fits[row] = template
                break
            for column in range(rest + 1):
                starts[column, row] = -1
        if fits[row] < 0:
            p = begin
            while p < end and (data[p] == 32 or data[p] == 9):
                p += 1
            if p == end:
                fits[row] = -2
        begin = end + 1


def gather(data: Any, starts: Any, stops: Any, offsets: Any, out: Any) -> None:
    """Copy the fields, one after the other, to `out`; `offsets` says where each begins."""
    place = 0
    for row in range(len(starts)):
        for p in range(starts[row], stops[row]):
            out[place] = data[p]
            place += 1
        offsets[row + 1] = place
