"""Random histories of a hybrid in simulated time: policies, faults and interleavings, and what holds through all of them.

200 of them in `make test`, 10 thousand in `make nightly` or with `--hypothesis-profile=nightly`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, get_args

from examples import examples
from hybrid_world import EPOCH, World
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ratesim import Limit
from ratesim.storage import config
from ratesim.storage.hybrid.session_token import SessionToken

HISTORIES = examples(200, nightly=10_000)
KEYS = ("a", "b", "c")
NODES = 3
PERIOD = 1e9  # seconds: no window ends while a history lasts
PLENTY = Limit(1e9, PERIOD, "fixed_window")
FEW = Limit(20, PERIOD, "fixed_window", name="few")
QUEUE = 4

nodes = st.integers(0, NODES - 1)
keys = st.sampled_from(KEYS)
costs = st.sampled_from([0.0, 1.0, 1.0, 2.0, 0.5])


class Histories(RuleBasedStateMachine):
    """Nodes that are asked for PLENTY by anybody, and for FEW by one session for each key, which is sequential."""

    @initialize(
        consistency=st.sampled_from(["eventual", "eventual", "session", "session", "lease", "strong"]),
        write=st.sampled_from(get_args(config.WritePolicy)),
        read=st.sampled_from(get_args(config.ReadPolicy)),
        away=st.sampled_from(get_args(config.StoreFailurePolicy)),
        full=st.sampled_from(get_args(config.QueueFullPolicy)),
        jitter=st.sampled_from([0.0, 1.0]),
        ttl=st.sampled_from([0.3, 2.0, 300.0]),
    )
    def begin(self, consistency: str, write: str, read: str, away: str, full: str, jitter: float, ttl: float) -> None:
        self.far = consistency in ("strong", "lease")
        self.behind = write == "write_behind" and not self.far
        self.world = World(
            NODES,
            consistency=consistency,
            write=write,
            read=read,
            on_store_failure="fail_closed" if self.far else away,  # alone, such a node counts nothing
            queue_full=full,
            queue_size=QUEUE,
            sync_jitter=jitter,
            l1_ttl=ttl,
            refresh_after=0.5,
            flush_batch=2,
            max_wait=0.4,
            lease_ttl=0.5,
        )
        self.ever = list(self.world.nodes)
        self.admitted: dict[str, float] = defaultdict(float)
        self.in_session: dict[str, float] = defaultdict(float)
        self.tokens: dict[str, str] = {}
        self.busy: set[str] = set()
        self.unanswered = 0
        self.went_back = self.died = False
        self.older: dict[str, Any] = {}

    def run(self, seconds: float) -> None:
        self.world.env.run(until=self.world.env.now + seconds)

    # -- what is asked --------------------------------------------------------------------------------------------------

    @rule(k=nodes, key=keys, cost=costs, times=st.integers(1, 6))
    def ask(self, k: int, key: str, cost: float, times: int) -> None:
        async def main() -> None:
            decision = await self.world.nodes[k].acquire(key, PLENTY, cost)
            self.admitted[key] += cost * decision.allowed
            self.unanswered -= 1

        for _ in range(times):
            self.unanswered += 1
            self.world.runtime.spawn(main())
        self.run(1e-9)

    @rule(k=nodes, key=keys, cost=costs)
    def ask_in_session(self, k: int, key: str, cost: float) -> None:
        if key in self.busy:
            return
        self.busy.add(key)

        async def main() -> None:
            token = self.tokens.get(key)
            decision = await self.world.nodes[k].acquire(key, FEW, cost, session=token)
            self.in_session[key] += cost * decision.allowed
            if decision.session:
                self.is_later(key, token, decision.session)
                self.tokens[key] = decision.session
            self.busy.discard(key)

        self.world.runtime.spawn(main())
        self.run(1e-9)

    def is_later(self, key: str, before: str | None, after: str) -> None:
        """A session never sees a state of L2 that is older than what it has seen, unless L2 itself went back."""
        seen = SessionToken.decode(after, key)
        assert seen is not None
        if before is not None and not self.went_back:
            earlier = SessionToken.decode(before, key)
            assert earlier is not None
            assert seen.seen["few"].version >= earlier.seen["few"].version

    # -- what happens ---------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.0005, 0.01, 0.1, 0.37, 1.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.run(seconds)

    @rule(delay=st.sampled_from([0.0001, 0.001, 0.05, 0.3]))
    def travel_takes(self, delay: float) -> None:
        self.world.l2.delay = delay

    @rule(fault=st.sampled_from(["away", "silent", "lose_answer"]), is_so=st.booleans(), sent=st.booleans())
    def l2_is(self, fault: str, is_so: bool, sent: bool) -> None:
        setattr(self.world.l2, fault, is_so)
        self.world.l2.sent = sent

    @rule(k=nodes)
    def node_restarts(self, k: int) -> None:
        self.run(1e-5)  # epochs are told apart to the microsecond
        self.world.restart(k)
        self.ever.append(self.world.nodes[k])
        self.died = True

    @rule()
    def replica_catches_up(self) -> None:
        self.older = {
            (key, name): entry.export()
            for key in KEYS
            for name in ("", "few")
            if (entry := self.world.l2.live_entry(key, name, EPOCH)) is not None
        }

    @precondition(lambda self: self.older)
    @rule()
    def l2_fails_over(self) -> None:
        for (key, name), state in self.older.items():
            self.world.l2.set_state_nowait(key, state, EPOCH + PERIOD, name)
        self.went_back = True

    # -- what always holds ----------------------------------------------------------------------------------------------

    @invariant()
    def the_queue_is_bounded(self) -> None:
        if self.behind:
            assert all(node.sync_stats().unflushed_requests <= QUEUE for node in self.world.nodes)

    @invariant()
    def a_session_admits_at_most_its_limit(self) -> None:
        tokens = self.world.options["consistency"] == "session"
        whole = not (self.went_back or self.died or self.lost())
        if tokens and whole and self.world.options["on_store_failure"] == "fail_closed":
            assert all(cost <= FEW.rate for cost in self.in_session.values())

    def lost(self) -> float:
        return sum(node.sync_stats().dropped_cost for node in self.ever)

    def teardown(self) -> None:
        """All is well again and nothing is under way any more: L2 knows what was admitted, once."""
        if not hasattr(self, "world"):
            return
        l2 = self.world.l2
        l2.away = l2.silent = l2.lose_answer = False
        self.world.env.run()
        assert not self.unanswered
        assert not self.busy
        lost = self.lost()
        for key in KEYS:
            told = PLENTY.rate - l2.left(key, PLENTY, EPOCH)
            admitted = self.admitted[key]
            if self.far:
                assert told >= admitted or self.went_back, "who admits has it counted first"
                continue
            assert told <= admitted, "nothing counts twice"
            if not self.went_back:
                assert told >= admitted - lost, "nothing is lost but what is said to be"
        if not (self.far or self.went_back or self.died):
            both = sum(self.admitted.values()) + sum(self.in_session.values())
            known = sum(PLENTY.rate - l2.left(key, PLENTY) + FEW.rate - l2.left(key, FEW) for key in KEYS)
            # A limit that is overdrawn says that nothing is left; how much it took in is in its state.
            known += sum(max(-self.below(key), 0.0) for key in KEYS)
            assert known == both - lost
        assert all(node.sync_stats().unflushed == 0 for node in self.world.nodes)

    def below(self, key: str) -> float:
        entry = self.world.l2.live_entry(key, "few", EPOCH)
        return 0.0 if entry is None else FEW.rate - entry.load()[1]


Histories.TestCase.settings = settings(
    max_examples=HISTORIES,
    stateful_step_count=25,
    suppress_health_check=list(HealthCheck),
)
TestHistories = Histories.TestCase
