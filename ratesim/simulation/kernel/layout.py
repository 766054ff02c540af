"""The records of the kernel: what the objects of the SimPy engine hold, as rows of arrays.

Each record has the name of what it stands for. A field is written by its name: `node.until += seconds`. All of it is plain
numbers, so that the same functions run compiled by numba and uncompiled.
"""

from __future__ import annotations

import numpy as np

from ratesim.simulation.kernel.state_layout import FUNCTIONS, RULE_INT, RULE_VOID
from ratesim.simulation.queueing.station_account import ACCOUNT, BIN, GUEST

__all__ = ["ARRAYS", "CALLED", "SCALARS"]

NONE, NO_TURN = -1, -2  # no index; nothing runs

# What happens at an event, or in a turn.
GO_ON, LOOP_FREE, DEADLINE, NOTHING, WARMUP_START, WARMUP_END = 0, 1, 2, 3, 4, 5
SOLE_LEAVES, CORES_PASS = 6, 7

# Kinds of tasks: who goes on when a batch has its answers.
REQUEST, GATHER, BATCH, LEASE_ACQUIRE, LEASE_RENEWAL, LEASE_RETURN = 0, 1, 2, 3, 4, 5
CLEANUP, GROUP = 6, 7
VIEW_REQUEST, REFRESH, FLUSH, FLUSH_SOON, DELIVERY = 8, 9, 10, 11, 12

# Kinds of candidates: who decides a request.
ASKS_STORE, LEASES, VIEWS = 0, 1, 2

# Kinds of operations.
ACQUIRE, GET, APPLY, PLACE = 0, 1, 2, 3
KINDS = ("acquire", "get", "apply")  # what is measured of them, in the profile

# Where a task goes on. A step sets it, and returns whether the task goes on at once.
(
    FIRST_TURN,  # of `Dispatcher._acquire_later`
    SECOND_TURN,
    SUBMIT,  # `Client.submit`
    GATHER_START,  # of `Client._send_gathered`
    GATHER_END,
    SEND,  # `Client._send`
    ASK,  # of `SimDriver.execute`
    SERVE,
    COME_BACK,
    ANSWER_TURN,  # of `SimDriver._take_in`
    ANSWER_NEXT_TURN,
    ANSWER_LAST_TURN,
    SENT,  # the end of `Client._send`
    ANSWERED,  # whoever has submitted an operation goes on
    LEASE_WAITED,  # of `LeaseManager.acquire`, behind the borrowing that was under way
    LEASE_RENEW,  # `LeaseManager._renew`
    LEASE_ROUND,  # of `LeaseManager._end_leases`
) = range(17)
# The way through a server where a batch waits: `SimDriver._in_turn` and `_served`; and `StoreServer.remove_expired`.
SERVE_LOCKED, SERVE_SPEND, SERVE_SPENT, SERVE_FLUSHED = range(40, 44)
CLEANUP_WAIT, CLEANUP_START, CLEANUP_SPENT = range(44, 47)
# The way to the primaries of a cluster: `ShardedDriver`.
CLUSTER_ONLY, CLUSTER_ANSWERED, CLUSTER_JOIN = range(48, 51)
# Of decisions on views: `LocalDecider`, `ViewCache` and `WriteBehindQueue`.
VIEW_FRESH, VIEW_DECIDE, READ_WAITED, READ_AGAIN, REFRESH_START, DELIVER = range(60, 66)
FLUSH_ROUND, FLUSH_DUE, FLUSH_NEXT, FLUSH_START = range(66, 70)

# Why the kernel gives up, in `world.abort`.
SOUND, FULL, DEADLINE_PASSED, QUEUE_FULL, LOOP_ACCOUNT, ACCOUNT_WRONG, STATE_AHEAD, ROOM_WANTED, TOKEN_FULL = range(9)

EVENT = np.dtype([("time", "f8"), ("number", "i8"), ("what", "i4"), ("argument", "i4")], align=True)
CALL = np.dtype([("what", "i4"), ("argument", "i4")], align=True)

# `_Deadlines` of one length, and its `_Deadline`s in a ring.
DEADLINES = np.dtype([("seconds", "f8"), ("first", "i8"), ("count", "i8"), ("scheduled", "u1")], align=True)
DEADLINE_ENTRY = np.dtype([("at", "f8"), ("alive", "u1")], align=True)

# `EventLoopCPU` and `Client` of a node.
NODE = np.dtype(
    [
        ("until", "f8"),
        ("later", "f8"),
        ("worked", "f8"),
        ("last_came", "f8"),
        ("turn_at", "f8"),
        ("idle", "f8"),
        ("woken_at", "f8"),
        ("asked_at", "f8"),
        ("decided", "f8"),
        ("free_at", "f8"),  # of the station that its steps are customers of
        ("operations", "i8"),
        ("number", "i4"),
        ("ready_first", "i4"),
        ("ready_last", "i4"),
        ("ready_count", "i4"),
        ("came_first", "i4"),
        ("came_last", "i4"),
        ("came_count", "i4"),
        ("free", "i4"),  # connections
        ("waiting_first", "i4"),
        ("waiting_last", "i4"),
        ("waiting_count", "i4"),
        ("outstanding", "i4"),
        ("scheduled", "u1"),
        ("gathering", "u1"),
    ],
    align=True,
)
# Where the customers inside a station are, in `guests`.
RING = np.dtype([("first", "i8"), ("length", "i8")], align=True)
CAME = np.dtype([("at", "f8"), ("next", "i4")], align=True)

# A driver of a node: `SimDriver`.
DRIVER = np.dtype([("pause", "f8")], align=True)

# A server: `StoreServer` and its `FifoStation`.
SERVER = np.dtype(
    [("awake_until", "f8"), ("pause", "f8"), ("free_at", "f8"), ("number", "i4")],
    align=True,
)

# `MultiCoreCPU`: the only customer until another comes, which sleeps, and how many are in the heap of departures.
CORES = np.dtype(
    [
        ("virtual", "f8"),
        ("at", "f8"),
        ("wakes", "f8"),
        ("alone_left", "f8"),
        ("alone_came", "f8"),
        ("alone_seconds", "f8"),
        ("busy", "f8"),
        ("count", "i8"),
        ("inside", "i8"),
        ("alone_sole", "i4"),
        ("alone", "u1"),
    ],
    align=True,
)
SOLE = np.dtype([("task", "i4"), ("next", "i4")], align=True)
CUSTOMER = np.dtype([("came", "f8"), ("seconds", "f8")], align=True)

# A task at the rows of `RowLocks`: its ticket, those that wait for it, and the operation whose row it waits for.
HOLDER = np.dtype([("ticket", "i8"), ("first", "i4"), ("last", "i4"), ("next", "i4"), ("waits", "i4")], align=True)
# An operation at its row: whether it takes it, and the task before it with its ticket.
WANT = np.dtype([("ticket", "i8"), ("behind", "i4"), ("takes", "u1")], align=True)

# `GroupCommit`: the ends of the flush under way or the last one, and of the next one for which somebody waits.
COMMIT = np.dtype([("ends", "f8"), ("follows", "f8")], align=True)

# `PostgresWork`, its stalls, and the row of a key.
WORK = np.dtype(
    [
        ("calm_until", "f8"),
        ("locked_until", "f8"),
        ("insert", "f8"),
        ("span", "f8"),
        ("charged", "f8"),  # seconds that a row lives on after a charge
        ("cleanup_at", "f8"),
        ("cleanup_until", "f8"),
        ("cleanup_interval", "f8"),
        ("reading", "f8"),  # seconds of a row
        ("removal", "f8"),
        ("dropping", "f8"),  # seconds of a partition
        ("first_span", "i8"),
        ("batches", "i8"),
        ("most", "i8"),
        ("read", "i8"),
        ("found", "i8"),
    ],
    align=True,
)
STALL = np.dtype([("every", "f8"), ("lasts", "f8"), ("phase", "f8"), ("commit", "f8"), ("service", "f8")], align=True)
ROW = np.dtype([("expires", "f8"), ("born", "i8"), ("seen", "i8"), ("lives", "u1")], align=True)

# A task of a batch, whose groups of a primary each follow one another, or of such a group.
GROUP_OF_BATCH = np.dtype(
    [("deadline", "i8"), ("batch", "i4"), ("next", "i4"), ("done", "u1"), ("awaited", "u1")], align=True
)

# The batches of a kind that a server has executed, and an operation of one that is measured: `WireKind`.
WIRE_KINDS = 4  # of operations
WIRE_COUNT = np.dtype([("batches", "i8"), ("operations", "i8"), ("measured", "i8"), ("uncounted", "i8")], align=True)
SAMPLE = np.dtype(
    [
        ("batch", "i8"),
        ("cost", "f8"),
        ("time", "f8"),
        ("remaining", "f8"),
        ("retry_after", "f8"),
        ("reset_after", "f8"),
        ("row", "i8"),
        ("key", "i4"),
        ("server", "i4"),
        ("kind", "i4"),
        ("allowed", "u1"),
    ],
    align=True,
)

# A coroutine that waits, and the batch that it carries.
TASK = np.dtype(
    [
        ("came", "f8"),
        ("out", "f8"),
        ("service", "f8"),
        ("back", "f8"),
        ("answer", "f8"),
        ("after", "f8"),
        ("deadline", "i8"),
        ("kind", "i4"),
        ("at", "i4"),
        ("node", "i4"),
        ("server", "i4"),
        ("first", "i4"),  # of its operations
        ("last", "i4"),
        ("count", "i4"),
        ("rest", "i4"),  # operations of `client_submit_all` that are still to be sent, and those that have their answers
        ("done", "i4"),
        ("done_last", "i4"),
        ("row", "i8"),  # of a request
        ("pair", "i4"),  # of a node and a key
        ("wait_deadline", "i8"),  # of `max_wait`
        ("own_flight", "u1"),
        ("begin", "f8"),
        ("begin_ask", "f8"),
        ("more", "f8"),
        ("ready", "i4"),  # the first record that is still to be flushed
        ("rest_last", "i4"),
        ("flight_first", "i4"),  # the tasks that wait for what this one reads or flushes
        ("flight_last", "i4"),
        ("seen_at", "f8"),  # what the session has seen, the first of its own consumption, and reads for its sake
        ("seen_requests", "f8"),
        ("own_first", "i4"),
        ("reads", "i4"),
        ("wanted", "i8"),  # the number of the flush that is waited for
        ("next", "i4"),  # in a list of tasks that are ready, wait for a flight, or are free
    ],
    align=True,
)
OPERATION = np.dtype(
    [
        ("time", "f8"),
        ("cost", "f8"),
        ("sequence", "i8"),
        ("row", "i8"),
        ("key", "i4"),
        ("kind", "i4"),
        ("task", "i4"),
        ("next", "i4"),
        ("node", "i4"),  # whose consumption a charge is, in what epoch, and when it was sent
        ("epoch", "i8"),
        ("sent", "f8"),
        ("number", "i4"),  # its place, where the state of its answer is
        ("pair", "i4"),
        ("found", "u1"),  # whether a read has found a state
        ("allowed", "u1"),
        ("wants_answer", "u1"),  # whether more is asked for than whether it is allowed
        ("remaining", "f8"),
        ("retry_after", "f8"),
        ("reset_after", "f8"),
    ],
    align=True,
)

# A lease of a node and a key, and the `LeaseManager` of a node, whose leases that end are a heap from `first` on.
LEASE = np.dtype(
    [
        ("left", "f8"),
        ("remaining", "f8"),
        ("ends", "f8"),
        ("first_at", "f8"),
        ("expires", "f8"),
        ("borrowed_at", "f8"),
        ("denied_until", "f8"),
        ("retry_at", "f8"),
        ("denied", "f8"),
        ("rate", "f8"),
        ("spent", "f8"),
        ("round_trip", "f8"),
        ("seen_at", "f8"),
        ("key", "i4"),
        ("waiting_first", "i4"),
        ("waiting_last", "i4"),
        ("exists", "u1"),
        ("flying", "u1"),
        ("watched", "u1"),
    ],
    align=True,
)
LEASE_MANAGER = np.dtype(
    [("first", "i8"), ("due_count", "i8"), ("pushed", "i8"), ("returns", "i8"), ("ends", "u1")], align=True
)

# `ReplicaState` of a node and a key, whose view is in a table of states; its `Delta`s; `WriteBehindQueue` of a node.
REPLICA = np.dtype(
    [
        ("read_at", "f8"),
        ("fresh_until", "f8"),
        ("since", "f8"),
        ("until", "f8"),
        ("time", "f8"),
        ("cost", "f8"),
        ("acked", "f8"),
        ("asked_at", "f8"),
        ("seen_at", "f8"),  # the version of the store's state: when it was made, and the requests that it has taken in
        ("seen_requests", "f8"),
        ("requests", "i8"),
        ("epoch", "i8"),
        ("started", "i8"),
        ("finished", "i8"),
        ("stored_life", "f8"),  # the life of the view that the store's answer has begun, and whether it has watermarks
        ("touched", "i8"),  # the order of use in the node's memory
        ("pending_first", "i4"),
        ("pending_last", "i4"),
        ("sending_first", "i4"),
        ("flight", "i4"),  # the task that reads or flushes
        ("dirty_before", "i4"),
        ("dirty_after", "i4"),
        ("ready_next", "i4"),
        ("node", "i4"),
        ("key", "i4"),
        ("exists", "u1"),
        ("marked", "u1"),
        ("there", "u1"),  # whether the node's memory has the view
        ("dirty", "u1"),
        ("overdue", "u1"),
    ],
    align=True,
)
DELTA = np.dtype([("time", "f8"), ("cost", "f8"), ("requests", "i8"), ("next", "i4")], align=True)
FLUSH_QUEUE = np.dtype(
    [
        ("phase", "f8"),
        ("epoch", "i8"),
        ("waiting", "i8"),
        ("dirty_first", "i4"),
        ("dirty_last", "i4"),
        ("dirty_count", "i4"),
        ("worker", "u1"),
    ],
    align=True,
)
# The `SessionToken` of a session and a key, and `OwnConsumption`, with the part that a view lacks.
TOKEN = np.dtype([("seen_at", "f8"), ("seen_requests", "f8"), ("own_first", "i4")], align=True)
OWN = np.dtype(
    [("cost", "f8"), ("upto", "f8"), ("time", "f8"), ("missing", "f8"), ("node", "i4"), ("next", "i4")], align=True
)

# A point of `Coldness`; the points of all of them in one array.
COLD = np.dtype(
    [("idle", "f8"), ("wake", "f8"), ("ask", "f8"), ("answer", "f8"), ("after", "f8"), ("served", "f8")], align=True
)
# What a batch of so many operations costs, by their number: `BackendCosts.steps` and `seconds`.
BATCH_COST = np.dtype([("ask", "f8"), ("answer", "f8"), ("after", "f8"), ("service", "f8")], align=True)
# `Cost` of a kind of operations: seconds of a batch; where the kind has none of its own it costs what an acquire costs.
KIND_COST = np.dtype([("fixed", "f8"), ("each", "f8"), ("own", "u1")], align=True)

FLOAT, WHOLE, SHORT, FLAG = np.dtype("f8"), np.dtype("i8"), np.dtype("i2"), np.dtype("u1")
SINGLE = np.dtype("f4")
INDEX, BITS = np.dtype("i4"), np.dtype("u8")

# The arrays of a world by name; in the compiled world each is an address and a length.
ARRAYS = {
    "events": EVENT,
    "turn": CALL,
    "deadlines": DEADLINES,
    "deadline_entries": DEADLINE_ENTRY,
    "nodes": NODE,
    "came": CAME,
    "drivers": DRIVER,
    "servers": SERVER,
    "places_free": FLOAT,  # when each place of a station with several is free, as a heap
    "cores": CORES,
    "core_shares": FLOAT,
    "soles": SOLE,
    "customers": CUSTOMER,  # by their tasks
    "departures": EVENT,  # of customers, in virtual time
    "holders": HOLDER,
    "wants": WANT,
    "row_holders": INDEX,
    "commits": COMMIT,
    "bits_float": FLOAT,  # a number, and its bits at the same place
    "bits_whole": BITS,
    "name_products": BITS,
    "commit_factors": FLOAT,
    "standby_factors": FLOAT,
    "works": WORK,
    "stalls": STALL,
    "rows": ROW,
    "spans": FLAG,
    "key_owners": INDEX,
    "owner_groups": INDEX,
    "groups": GROUP_OF_BATCH,
    "batch_next": INDEX,
    "wire_counts": WIRE_COUNT,
    "samples": SAMPLE,
    "tasks": TASK,
    "operations": OPERATION,
    "cold": COLD,
    "batch_costs": BATCH_COST,
    "client_paces": FLOAT,
    "server_paces": FLOAT,
    "due": FLOAT,
    "time": FLOAT,
    "cost": FLOAT,
    "key": WHOLE,
    "route": SHORT,
    "accounts": ACCOUNT,
    "bins": BIN,
    "guests": GUEST,
    "rings": RING,
    "pair": WHOLE,
    "leases": LEASE,
    "lease_managers": LEASE_MANAGER,
    "leases_due": EVENT,
    "replicas": REPLICA,
    "deltas": DELTA,
    "queues": FLUSH_QUEUE,
    "view_age": SINGLE,
    "view_rows": FLOAT,
    "there_log": WHOLE,
    "answer_rows": FLOAT,
    "token": WHOLE,
    "tokens": TOKEN,
    "owns": OWN,
    "seen_marks": FLOAT,
    "answer_marks": FLOAT,
    "draw_salts": BITS,
    "kind_costs": KIND_COST,
    "kind_factors": FLOAT,
    "link_factors": FLOAT,
    "plan_out": FLOAT,
    "plan_service": FLOAT,
    "plan_back": FLOAT,
    "sent": FLOAT,
    "allowed": FLAG,
    "latency": FLOAT,
    "sequences": WHOLE,
    "answer": FLOAT,  # of a rule's functions
}
# The scalars of a world by name, with the value at its start.
SCALARS: dict[str, float | int] = {
    "now": 0.0,
    "next_due": 0.0,
    "number": 0,  # of the next event
    "requests": 0,
    "arrived": 0,
    "events_count": 0,
    "turn_first": 0,
    "turn_count": 0,
    "tasks_free": NONE,
    "operations_free": NONE,
    "came_free": NONE,
    "sequence": 0,
    "abort": SOUND,
    "pause": 0,
    "primaries": 1,
    "reserve": 0,
    "pool_size": 0,
    "max_batch": 0,
    "max_waiting": 0,
    "turn_seconds": 0.0,
    "arrival_seconds": 0.0,
    "client_cold": 0,
    "client_paced": 0,
    "server_paced": 0,
    "least_outstanding": 0,
    "next_node": 0,
    "warmup": 0.0,
    "guests_used": 0,
    "epoch": 0.0,
    "plan_request": 0,  # the row whose draws the next acquire takes: `RandomPlan.request`
    "wait_class": 0,  # of the deadlines of `max_wait`
    "decide_seconds": 0.0,  # of a decision in a node's memory
    "memory_cold": 0,  # points of its coldness, from `memory_cold_first` on
    "memory_cold_first": 0,
    "hybrid": 0,  # whether the costs of a hybrid's node come on top
    "hybrid_ask": 0.0,
    "hybrid_tell": 0.0,
    "hybrid_cold": 0,
    "hybrid_cold_first": 0,
    "kind": ASKS_STORE,
    "keys": 0,
    "lease_lifetime": 0.0,
    "lease_resolution": 0.0,
    "lease_ttl": 0.0,
    "lease_tolerance": 0.0,
    "lease_skew": 0.0,
    "lease_nodes": 1,
    "running": 0,  # whether a turn is played: what is spawned outside of one has an event
    "waits_for_store": 0,  # whether requests that ask the store have the deadline of `max_wait`
    "decides_nowait": 0,
    "read_ahead": 0,
    "writes_through": 0,
    "writes_around": 0,
    "flush_lingers": 0,
    "flush_linger": 0.0,
    "flush_batch": 0,
    "queue_size": 0,
    "sync_interval": 0.0,
    "view_ttl": 0.0,
    "view_fresh": 0.0,
    "view_skew": 0.0,
    "max_wait": 0.0,
    "replica_resolution": 0.0,
    "deltas_free": NONE,
    "view_table": 0,  # the tables of the nodes' states, and of those that travel with an answer
    "answer_table": 0,
    "state_stride": 0,
    "sessions": 0,
    "session_horizon": 0.0,
    "owns_free": NONE,
    "link_median": 0.0,
    "link_sigma": 0.0,
    "link_loss": 0.0,
    "link_rto": 0.0,
    "link_measured": 0,
    "touches": 0,
    "there_count": 0,
    "serves_plainly": 1,  # whether a batch waits for nothing but the station, which decides and answers in order
    "straight": 1,
    "serves_many": 0,
    "shares_cores": 0,
    "soles_free": NONE,
    "locks_rows": 0,
    "tickets": 0,
    "store": 0,  # the table of states of the servers, as a rule's functions take it
    "server_clock": 0,  # whether the servers decide by their clock
    "denies_by_reading": 0,
    "commits_wait": 0,
    "commit_seconds": 0.0,
    "standby_waits": 0,
    "standby_seconds": 0.0,
    "standby_way": 0.0,
    "works_beside": 0,
    "follows_rows": 0,
    "sampled_batches": 0,
    "samples_count": 0,
    "sharded": 0,  # whether there are several primaries
    "answered_at": SENT,  # where a driver goes on that has its answers; or CLUSTER_ANSWERED
    "cluster_class": NONE,  # of the deadlines of a primary
    "deadline_room": 0,  # entries of each length
}
# What is called by an address: the functions of a rule, and `HybridSamples.note`, with the types of result and parameters.
CALLED = {**FUNCTIONS, "samples_note": (RULE_VOID, RULE_INT)}
