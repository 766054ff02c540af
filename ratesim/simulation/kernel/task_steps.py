"""The steps of a task: which one is next, and who goes on with an answer."""

from __future__ import annotations

from typing import Any

from ratesim.simulation.kernel.client import client_gather_end, client_gather_start, client_send, client_sent, client_submit
from ratesim.simulation.kernel.driver import (
    driver_answer_last_turn,
    driver_answer_next_turn,
    driver_answer_turn,
    driver_ask,
    driver_come_back,
    driver_serve,
)
from ratesim.simulation.kernel.layout import (
    ANSWER_LAST_TURN,
    ANSWER_NEXT_TURN,
    ANSWER_TURN,
    ANSWERED,
    ASK,
    CLEANUP_START,
    CLEANUP_WAIT,
    CLUSTER_ANSWERED,
    CLUSTER_JOIN,
    CLUSTER_ONLY,
    COME_BACK,
    DELIVER,
    DELIVERY,
    FIRST_TURN,
    FLUSH,
    FLUSH_DUE,
    FLUSH_NEXT,
    FLUSH_ROUND,
    FLUSH_SOON,
    GATHER_END,
    GATHER_START,
    LEASE_ACQUIRE,
    LEASE_RENEW,
    LEASE_RENEWAL,
    LEASE_RETURN,
    LEASE_ROUND,
    LEASE_WAITED,
    READ_AGAIN,
    READ_WAITED,
    REFRESH,
    REFRESH_START,
    SECOND_TURN,
    SEND,
    SENT,
    SERVE,
    SERVE_FLUSHED,
    SERVE_LOCKED,
    SERVE_SPEND,
    SERVE_SPENT,
    SUBMIT,
    VIEW_DECIDE,
    VIEW_FRESH,
    VIEW_REQUEST,
)
from ratesim.simulation.kernel.lease_manager import (
    lease_answered,
    lease_renew,
    lease_renewed,
    lease_returned,
    lease_round,
    lease_waited,
)
from ratesim.simulation.kernel.local_decisions import (
    local_deliver,
    local_fetched,
    local_freshen,
    local_go_on,
    local_read_again,
    local_waited,
)
from ratesim.simulation.kernel.read_cache import cache_refresh_start, cache_refreshed
from ratesim.simulation.kernel.redis_cluster import cluster_answered, cluster_join, cluster_only
from ratesim.simulation.kernel.requests import request_answered, request_first_turn, request_submit
from ratesim.simulation.kernel.server import (
    server_answer,
    server_begin,
    server_cleanup,
    server_cleanup_spent,
    server_cleanup_wait,
    server_decide,
    server_locked,
)
from ratesim.simulation.kernel.write_behind import flush_answered, flush_due, flush_next, flush_round, flush_start


def task_step(w: Any, t: int) -> bool:
    """Take the next step of a task; returns whether it goes on at once, or waits or ends.

    The steps of most requests have a function of their own, because one clears its stack for all that it may call.
    """
    at = w.tasks[t].at
    if at == COME_BACK:
        return driver_come_back(w, t)
    if at == SERVE:
        return driver_serve(w, t)
    if at == SECOND_TURN:
        return request_submit(w, t)
    if at == SEND:
        return client_send(w, t)
    if at == ASK:
        return driver_ask(w, t)
    if at == SENT:
        return client_sent(w, t) and task_answered(w, t)
    if at == ANSWERED:
        return task_answered(w, t)
    if at == FIRST_TURN:
        return request_first_turn(w, t)
    if at == ANSWER_TURN:
        return driver_answer_turn(w, t)
    if at == ANSWER_NEXT_TURN:
        return driver_answer_next_turn(w, t)
    if at == ANSWER_LAST_TURN:
        return driver_answer_last_turn(w, t)
    if at >= VIEW_FRESH:
        return task_step_on_views(w, t, at)
    return task_step_of_few(w, t, at)


def task_step_of_few(w: Any, t: int, at: int) -> bool:
    """Go on with a task at a server where batches wait, or at one of several, and in what not every request needs."""
    if at == SERVE_LOCKED:
        return server_locked(w, t)
    if at == SERVE_SPEND:
        return server_begin(w, t)
    if at == SERVE_SPENT:
        return server_decide(w, t)
    if at == SERVE_FLUSHED:
        return server_answer(w, t)
    if at == SUBMIT:
        return client_submit(w, t)
    if at == GATHER_START:
        return client_gather_start(w, t)
    if at == GATHER_END:
        return client_gather_end(w, t)
    if at == LEASE_WAITED:
        return lease_waited(w, t)
    if at == LEASE_RENEW:
        return lease_renew(w, t)
    if at == LEASE_ROUND:
        return lease_round(w, t)
    if at == CLUSTER_ONLY:
        return cluster_only(w, t)
    if at == CLUSTER_ANSWERED:
        return cluster_answered(w, t)
    if at == CLUSTER_JOIN:
        return cluster_join(w, t)
    if at == CLEANUP_WAIT:
        return server_cleanup_wait(w, t)
    if at == CLEANUP_START:
        return server_cleanup(w, t)
    return server_cleanup_spent(w, t)


def task_step_on_views(w: Any, t: int, at: int) -> bool:
    """Go on with a task of nodes that decide on views."""
    if at == VIEW_FRESH:
        return local_freshen(w, t)
    if at == VIEW_DECIDE:
        return local_go_on(w, t)
    if at == READ_WAITED:
        return local_waited(w, t)
    if at == READ_AGAIN:
        return local_read_again(w, t)
    if at == REFRESH_START:
        return cache_refresh_start(w, t)
    if at == DELIVER:
        return local_deliver(w, t)
    if at == FLUSH_ROUND:
        return flush_round(w, t)
    if at == FLUSH_DUE:
        return flush_due(w, t)
    if at == FLUSH_NEXT:
        return flush_next(w, t)
    return flush_start(w, t)


def task_answered(w: Any, t: int) -> bool:
    """Go on with whoever has submitted an operation that has its answer."""
    kind = w.tasks[t].kind
    if kind == LEASE_ACQUIRE:
        return lease_answered(w, t)
    if kind == LEASE_RENEWAL:
        return lease_renewed(w, t)
    if kind == LEASE_RETURN:
        return lease_returned(w, t)
    if kind == VIEW_REQUEST:
        return local_fetched(w, t)
    if kind == REFRESH:
        return cache_refreshed(w, t)
    if kind in (FLUSH, FLUSH_SOON, DELIVERY):
        return flush_answered(w, t)
    return request_answered(w, t)
