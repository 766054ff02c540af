"""The layout of a table of states (`states.StateTable`), and of its answers."""

from __future__ import annotations

import numpy as np

# In a row: until when the state lives (0: there is none), when it was made and last written, the requests that it has taken
# in, and how many states the row has had.
ROW_EXPIRES_AT, ROW_CREATED_AT, ROW_ACCESSED_AT, ROW_REQUESTS, ROW_LIVES, ROW_HEADER = 0, 1, 2, 3, 4, 5
ROW_BEGIN, ROW_LENGTH, ROW_GROWING = 5, 6, 7  # where a growing state begins in the arena, and its length

DECIDE_CONSUMES, DECIDE_TELLS = 1, 2  # flags: an admitted cost is charged; the numbers of the answer are wanted
ANSWER_REMAINING, ANSWER_RETRY_AFTER, ANSWER_RESET_AFTER = 0, 1, 2  # in the answer of a table
ANSWER_EPOCH, ANSWER_CONSUMED = 0, 1  # ... to a question for a watermark

TABLE_ARENA, TABLE_MARKS = 1, 2  # what was too small

# A table as the compiled functions see it: addresses, lengths, and what is in use.
TABLE = np.dtype(
    [
        ("rows", "i8"),
        ("stride", "i8"),  # floats of a row
        ("width", "i8"),  # floats that `refresh` may write
        ("p", "i8"),
        ("skew", "f8"),
        ("answer", "i8"),
        ("arena", "i8"),
        ("used", "i8"),
        ("capacity", "i8"),
        ("marks", "i8"),
        ("marks_first", "i8"),  # of the marks of a row; 0: none
        ("marks_mask", "i8"),  # -1: the table keeps none
        ("marks_used", "i8"),
        ("marks_nodes", "i8"),
        ("exhausted", "i8"),
        # Of the charge that is being applied: consumption up to its next entry, before it, and up to the watermark (-inf:
        # none that counts, inf: all is known), whether that is a part of it, and whether an entry has been charged.
        ("upto", "f8"),
        ("before", "f8"),
        ("known", "f8"),
        ("part", "i8"),
        ("delivered", "i8"),
    ],
    align=True,
)
# The watermark of a node in a row, in a hash table with open addresses. It holds for one life of the row.
MARK = np.dtype([("of", "i8"), ("life", "f8"), ("epoch", "i8"), ("consumed", "f8"), ("next", "i8")], align=True)

RULE_INT, RULE_FLOAT, RULE_VOID = "types.int64", "types.float64", "types.void"

# The functions of a rule by name, with the types of the result and of the parameters: a table and a row first.
FUNCTIONS: dict[str, tuple[str, ...]] = {
    # flags, cost, now: 1 if it is admitted, -1 if the table is exhausted
    "rule_decide": (RULE_INT, RULE_INT, RULE_INT, RULE_INT, RULE_FLOAT, RULE_FLOAT),
    # A charge: begin (node, epoch, consumed before, consumed in all, first time), each entry (time, cost, requests), and end
    # (last time).
    "rule_apply_begin": (RULE_VOID, RULE_INT, RULE_INT, RULE_INT, RULE_INT, RULE_FLOAT, RULE_FLOAT, RULE_FLOAT),
    "rule_apply": (RULE_VOID, RULE_INT, RULE_INT, RULE_FLOAT, RULE_FLOAT, RULE_INT),
    "rule_apply_end": (RULE_VOID, RULE_INT, RULE_INT, RULE_FLOAT),
    "rule_get": (
        RULE_INT,
        RULE_INT,
        RULE_INT,
        RULE_FLOAT,
        RULE_INT,
        RULE_INT,
    ),  # now, table and row to copy to: 1 if live
    "rule_export": (RULE_VOID, RULE_INT, RULE_INT, RULE_INT, RULE_INT),  # table and row to copy to
    "rule_begin": (RULE_VOID, RULE_INT, RULE_INT, RULE_FLOAT),  # now: a fresh state
    "rule_charge": (RULE_VOID, RULE_INT, RULE_INT, RULE_FLOAT, RULE_FLOAT),  # time, cost: refreshed and charged
    "rule_settle": (RULE_VOID, RULE_INT, RULE_INT),  # it lives until it is as good as new
    "rule_time": (RULE_FLOAT, RULE_INT, RULE_INT),  # its own
    "rule_mark": (RULE_INT, RULE_INT, RULE_INT, RULE_INT),  # node: 1 if there is a watermark, in the answer
}
