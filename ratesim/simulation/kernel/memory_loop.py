"""Nodes that decide in memory, as functions over all requests: who has which state, and how long the processors take.

They run compiled and uncompiled. The decisions themselves are in `memory_rule`.
"""

from __future__ import annotations

from typing import Any

HASH = 2654435761  # 2**32 over the golden ratio
UNTIL, IDLE, DECIDED, CAME, WORKED, FREE = 0, 1, 2, 3, 4, 5  # of a node
NOTHING = -1.0  # no step of a turn is to be accounted for


def memory_pairs(node: Any, key: Any, nodes: int, table: Any, codes: Any, pair: Any) -> int:
    """Give the pairs of node and key numbers as they come; returns how many there are.

    `pair` gets the number of each request, and `codes` key * nodes + node of each pair. The table has a power of two places,
    more than there are pairs, all of them -1.
    """
    last = len(table) - 1
    pairs = 0
    for i in range(len(key)):
        code = key[i] * nodes + node[i]
        place = (code * HASH) & last
        while table[place] >= 0 and codes[table[place]] != code:
            place = (place + 1) & last
        if table[place] < 0:
            table[place] = pairs
            codes[pairs] = code
            pairs += 1
        pair[i] = table[place]
    return pairs


def memory_in_turn(
    due: Any, first: int, last: int, loops: Any, cpu: float, cold_idle: Any, cold_ask: Any, latency: Any, customers: Any
) -> int:
    """Work for the requests of these rows, each by the next node, as a loop that has no turns: `Dispatcher._decide`.

    Parameters
    ----------
    due, first, last
        When each request comes, in seconds, and the rows.
    loops
        A row of six numbers for each node.
    cpu, cold_idle, cold_ask
        Processor seconds of a decision, and how many more after how many idle ones.
    latency
        Gets that of each request.
    customers
        Gets the steps of the loops: node, arrival, service, end.

    Returns
    -------
    int
        The number of steps.
    """
    steps = 0
    for i in range(first, last):
        loop = loops[i % len(loops)]
        now = due[i]
        if loop[UNTIL] <= now:
            steps = memory_settle(loop, i % len(loops), customers, steps)
            if now > loop[UNTIL]:
                loop[IDLE] += now - loop[UNTIL]
                loop[UNTIL] = now
            loop[CAME] = now
        idle = loop[IDLE] - loop[DECIDED]
        loop[DECIDED] = loop[IDLE]
        steps = memory_settle(loop, i % len(loops), customers, steps)
        loop[CAME] = now
        seconds = cpu + memory_cold(idle, cold_idle, cold_ask)
        loop[UNTIL] += seconds
        loop[WORKED] += seconds
        ahead = loop[UNTIL] - now
        latency[i] = now + (ahead if ahead > 0.0 else 0.0) - now
    return steps


def memory_settle(loop: Any, number: int, customers: Any, steps: int) -> int:
    """Account for the step before: `EventLoopCPU._settle`; returns the number of steps."""
    if loop[CAME] == NOTHING:
        return steps
    end = max(loop[FREE], loop[CAME]) + loop[WORKED]
    customer = customers[steps]
    customer[0] = number
    customer[1] = loop[CAME]
    customer[2] = loop[WORKED]
    customer[3] = end
    loop[FREE] = end
    loop[CAME] = NOTHING
    loop[WORKED] = 0.0
    return steps + 1


def memory_cold(idle: float, cold_idle: Any, cold_ask: Any) -> float:
    """Return the seconds that a decision takes longer after so many idle ones: `between` of `Coldness.client`."""
    if len(cold_idle) == 0:
        return 0.0
    place = 0
    while place + 1 < len(cold_idle) and cold_idle[place + 1] <= idle:
        place += 1
    if place + 1 >= len(cold_idle):
        return cold_ask[len(cold_idle) - 1]
    share = (idle - cold_idle[place]) / (cold_idle[place + 1] - cold_idle[place])
    return cold_ask[place] + share * (cold_ask[place + 1] - cold_ask[place]) if share != 0.0 else cold_ask[place]
