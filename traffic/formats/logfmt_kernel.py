"""The loop over bytes that finds the pairs of key and value in lines.

The functions are plain Python, and are compiled by numba for blocks that are worth it, as those of the templates are.
"""

from __future__ import annotations

from typing import Any

NO_FIT, EMPTY = -1, -2
LEAST_PAIRS = 2


def _name(data: Any, p: int, end: int, assign: int) -> int:
    """Return where the name that begins at p ends, if it is followed by the sign of a pair; -1 otherwise."""
    start = p
    while p < end:
        byte = data[p]
        if byte == assign:
            return p if p > start else -1
        letter = 97 <= byte <= 122 or 65 <= byte <= 90 or byte == 95 or byte == 64
        other = 48 <= byte <= 57 or byte == 46 or byte == 45
        if not letter and not (other and p > start):
            return -1
        p += 1
    return -1


def _closing(data: Any, p: int, end: int, quote: int) -> int:
    """Return the place of the quote that ends a text, which begins at p; -1 for none."""
    while p < end:
        if data[p] == quote:
            return p
        p += 2 if data[p] == 92 else 1
    return -1


def _time_goes_on(data: Any, p: int, end: int) -> bool:
    """Tell whether the word at p is a zone or a time of day: "+0200", "10:05:03", "UTC"."""
    if p + 2 >= end:
        return False
    first, second = data[p], data[p + 1]
    if first == 43 or first == 45 or 48 <= first <= 57:
        if not 48 <= second <= 57:
            return False
        return bool(data[p + 2] == 58 or 48 <= data[p + 2] <= 57)
    return bool(first == 85 and second == 84 and data[p + 2] == 67)


def _value(data: Any, p: int, end: int, assign: int, separator: int) -> int:
    """Return where a value without quotes ends: at the separator; or, of blanks, at the one before the next pair.

    Words behind the last pair are no part of it, unless they go on with its time.
    """
    first = 0
    while p < end:
        if separator != 32:
            if data[p] == separator:
                return p
            p += 1
            continue
        while p < end and data[p] != 32 and data[p] != 9:
            p += 1
        stop = p
        if first == 0:
            first = p
        while p < end and (data[p] == 32 or data[p] == 9):
            p += 1
        if p < end and (data[p] == 91 or _name(data, p, end, assign) >= 0):
            return stop
        if p >= end:
            break
        if stop == first and _time_goes_on(data, p, end):
            first = 0
    return first if first else end


def pair(data: Any, p: int, end: int, assign: int, separator: int) -> tuple[int, int, int, int, int]:
    """Find the next pair in a line.

    Returns
    -------
    tuple of int
        Start and stop of the key (-1 where there is no further pair), start and stop of the value, and where to go on. A
        text in brackets has an empty key.
    """
    while p < end:
        while p < end and (data[p] == 32 or data[p] == 9 or data[p] == separator):
            p += 1
        stop = _name(data, p, end, assign)
        if stop < 0 and p < end and data[p] == 91:
            last = _closing(data, p + 1, min(end, p + 64), 93)  # a stamp is not longer
            if last > 0:
                return p, p, p + 1, last, last + 1
        if stop < 0:
            if p < end and data[p] == 34 and _closing(data, p + 1, end, 34) > 0:
                p = _closing(data, p + 1, end, 34) + 1
            while p < end and data[p] != 32 and data[p] != 9 and data[p] != separator:
                p += 1
            continue
        first = stop + 1
        if first < end and (data[first] == 34 or data[first] == 39):
            last = _closing(data, first + 1, end, data[first])
            if last > 0 and (last + 1 >= end or data[last + 1] == 32 or data[last + 1] == 9 or data[last + 1] == separator):
                return p, stop, first + 1, last, last + 1
            if data[first] == 34:  # a quote that is never closed: the rest of the line is not known
                return -1, -1, -1, -1, end + 1
        last = _value(data, first, end, assign, separator) if first < end and data[first] != separator else first
        after = last
        while last > first and (data[last - 1] == 32 or data[last - 1] == 9):
            last -= 1
        if last > first + 1 and data[first] == 91 and data[last - 1] == 93:
            return p, stop, first + 1, last - 1, after
        return p, stop, first, last, after
    return -1, -1, -1, -1, end


def cut(data: Any, ends: Any, signs: Any, keys: Any, bounds: Any, results: Any) -> None:
    """Find the values of keys in each line.

    Parameters
    ----------
    data : bytes or NDArray[np.uint8]
        The block.
    ends : sequence of int, shape (n,)
        Where each line's line feed is.
    signs : (assign, separator), sequence of int
        The bytes between key and value, and between pairs.
    keys, bounds : sequences of int
        The bytes of all keys, and where each begins and the last one ends.
    results : (starts, stops, fits)
        Two arrays of shape (keys + 1, n), filled with -1 before: where the values lie; the last row is what is before the
        first pair. One of shape (n,): the number of pairs, NO_FIT or EMPTY.
    """
    starts, stops, fits = results
    assign, separator = signs[0], signs[1]
    before = len(bounds) - 1
    begin = 0
    for row in range(len(ends)):
        end = ends[row]
        pairs = 0
        p = begin
        while p < end:
            key, key_end, value, value_end, p = pair(data, p, end, assign, separator)
            if key < 0:
                if p > end:
                    pairs = 0
                break
            if key_end == key:
                if pairs > 0 and starts[before, row] < 0:
                    starts[before, row] = value
                    stops[before, row] = value_end
                continue
            if pairs == 0 and key > begin and starts[before, row] < 0:
                starts[before, row] = begin
                stops[before, row] = key
            pairs += 1
            for column in range(before):
                size = bounds[column + 1] - bounds[column]
                if size == key_end - key:
                    same = True
                    for i in range(size):
                        if keys[bounds[column] + i] != data[key + i]:
                            same = False
                            break
                    if same:
                        starts[column, row] = value
                        stops[column, row] = value_end
        fits[row] = pairs
        if pairs < 2:
            fits[row] = -1
            p = begin
            while p < end and (data[p] == 32 or data[p] == 9):
                p += 1
            if p == end:
                fits[row] = -2
        begin = end + 1
