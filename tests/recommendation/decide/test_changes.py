"""Advice that changes more than the storage says so first."""

from __future__ import annotations

import pytest
from made_assessments import an_assessment

from ratesim.recommendation.current import CURRENT
from ratesim.recommendation.decide.changes import changes, changes_note, changing
from ratesim.recommendation.decide.verdict import use
from ratesim.recommendation.investigate.assumed import assumed, with_defaults
from ratesim.simulation.analysis.alive_keys import AliveKeys
from ratesim.simulation.scenario.candidates import default_candidates
from ratesim.simulation.scenario.scenario import Scenario


def asked(nodes=3, candidates=(), requirements=None, **deployment):
    return Scenario.of(
        {
            "workload": {"requests_per_second": 10, "keys": 5, "duration": "10s"},
            "limit": {"rate": "10/minute"},
            "deployment": {"nodes": nodes, **deployment},
            "candidates": list(candidates),
            "requirements": requirements or {},
        }
    )


def names(scenario):
    return {each.name for each in default_candidates(scenario)}


STICKY = an_assessment("memory, sticky", "memory://", routing="sticky", algorithm="sliding_window")


def test_the_first_sentence_names_the_routing_that_is_changed():
    changed = changes(STICKY, asked())
    assert changed == ("the routing from round_robin to sticky",)
    said = use(STICKY, [STICKY], "USD", changed=changed)
    assert said.startswith("Change the routing from round_robin to sticky, and use memory, sticky: ")
    assert changing(STICKY, asked(), "passes, but costs more") == (
        "would change the routing from round_robin to sticky; passes, but costs more"
    )


def test_one_that_is_only_named_says_so_too():
    assert changes_note(STICKY, asked()) == "memory, sticky would change the routing from round_robin to sticky."
    assert changes_note(None, asked()) == changes_note(STICKY, asked(routing="sticky")) == ""


def test_what_changes_nothing_beside_the_storage_says_nothing():
    redis = an_assessment("redis", "redis://h", algorithm="sliding_window")
    assert changes(redis, asked()) == changes(STICKY, asked(routing="sticky")) == changes(STICKY, asked(nodes=1)) == ()
    assert changing(redis, asked(), "fails") == "fails"
    assert changes(an_assessment(CURRENT, "memory://", routing="sticky", algorithm="gcra"), asked()) == ()
    assert use(redis, [redis], "USD").startswith("Use redis: ")
    kept = an_assessment(CURRENT, "redis://h")
    assert use(kept, [kept], "USD").startswith("Keep what is in force: ")


def test_another_algorithm_more_primaries_and_tokens_are_changes_too():
    other = an_assessment("redis, gcra", "redis://h", algorithm="gcra", servers=6)
    assert changes(other, asked(shards=3)) == (
        "the algorithm from sliding_window to gcra",
        "the primaries of Redis from 3 to 6",
    )
    assert changes(other, asked()) == ("the algorithm from sliding_window to gcra",)
    session = an_assessment("hybrid session", "hybrid+redis://h?consistency=session", algorithm="sliding_window")
    assert changes(session, asked()) == ("the clients, which must return their session's token with each request",)


@pytest.mark.parametrize(
    ("deployment", "allowed", "competes"),
    [
        ({}, None, True),
        ({"routing": "round_robin"}, None, False),
        ({"routing": "round_robin"}, True, True),
        ({}, False, False),
        ({"routing": "sticky"}, True, False),  # it is the routing of all
        ({"nodes": 1}, None, False),
    ],
)
def test_sticky_routing_competes_where_the_routing_may_change(deployment, allowed, competes):
    requirements = {} if allowed is None else {"allow_routing_change": allowed}
    scenario = asked(**deployment, requirements=requirements)
    assert ("memory, sticky" in names(scenario)) is competes
    written = Scenario.parse(scenario.to_toml())  # a file means the same
    assert written == scenario
    assert names(written) == names(scenario)
    assert all(each.routing is None for each in default_candidates(asked(routing="sticky")))


def test_a_candidate_that_is_named_competes_with_its_routing():
    mine = {"name": "mine", "storage": "memory://", "routing": "sticky"}
    scenario = asked(routing="round_robin", candidates=[mine])
    assert names(scenario) == {"mine"}
    assert not any("outing" in each for each in assumed(scenario, None))


def test_what_was_assumed_because_nothing_was_said_is_said():
    keys = AliveKeys(1940, 0.1, False)
    count, over, routing = assumed(asked(), keys)
    assert count == (
        "Room for 2,134 keys: 1,940 alive at once in the traffic, growing 10 % in its last tenth; `--keys` says otherwise."
    )
    assert over.startswith("Over-admission of at most 1 %, because nothing was required")
    assert routing.startswith("Routing round_robin, which may change, because none was named")
    wants = with_defaults(asked(), keys).requirements
    assert (wants.key_count, wants.max_over_admission) == (2134, 0.01)


def test_where_all_share_one_key_sticky_routing_would_keep_one_node_busy():
    keys = AliveKeys(1, 0.0, False)
    one = with_defaults(asked(), keys)
    assert "memory, sticky" not in {each.name for each in default_candidates(one)}
    (said,) = (each for each in assumed(asked(), keys) if "outing" in each)
    assert said.startswith("The routing stays round_robin: all requests share one key, ")
    told = asked(requirements={"allow_routing_change": True})
    assert "memory, sticky" in {each.name for each in default_candidates(with_defaults(told, keys))}
    workload = one.workload.model_copy(update={"sessions": 40})
    assert one.model_copy(update={"workload": workload}).may_change_routing


def test_what_was_said_is_not_assumed():
    said = {"key_count": 7, "max_over_admission": "2%", "allow_routing_change": True}
    assert assumed(asked(requirements=said), None) == ()
    assert with_defaults(asked(requirements=said), None) == asked(requirements=said)
    stays = assumed(asked(routing="random", requirements={"max_over_admission": 0}), None)
    assert [each for each in stays if "`--allow-routing-change` lets it" in each] == list(stays)
    settled = [asked(nodes=1), asked(routing="sticky"), asked(requirements={"allow_routing_change": True})]
    assert all("outing" not in text for each in settled for text in assumed(each, None))


def test_any_over_admission_will_do_where_that_is_said_also_in_a_file():
    scenario = asked(requirements={"max_over_admission": "any"})
    written = Scenario.parse(scenario.to_toml())
    assert 'max_over_admission = "any"' in scenario.to_toml()
    for each in (scenario, written):
        assert each.requirements.says_any_over_admission
        assert with_defaults(each, None).requirements.max_over_admission is None
    assert not Scenario.parse(asked().to_toml()).requirements.says_any_over_admission
