# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A relay doubles the nodes that hold the content, survives those that fail, and the controller sends at most two."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import relay_rounds
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.relay_rounds import MAX_COPIES, MAX_TRIES, Relay

HELD = {"held": True, "wanted": False, "port": 4000, "server": [1, 2]}
LACKS = {"held": False, "wanted": True, "port": 0, "server": []}
ARRIVED = {"held": True, "port": 4001, "server": [3, 4], "problem": ""}


class Fleet:
    """Nodes that hold content or not, and an account of what went where."""

    def __init__(self, size: int, holders: int = 0, **faults: Callable[[str, str], bool]) -> None:
        self.nodes = [f"node{number}" for number in range(size)]
        self.holding = set(self.nodes[:holders])
        self.sent: list[str] = []
        self.rounds = 0
        self._seed_fails = faults.get("seed_fails", lambda node, _source: False)
        self._fetch_fails = faults.get("fetch_fails", lambda node, source: False)

    def run(self) -> Relay:
        relay = relay_rounds.begin(self.nodes, {node: HELD if node in self.holding else LACKS for node in self.nodes})
        while not relay.done:
            assert self.rounds < 100
            relay = relay_rounds.proceed(relay, self._seed(relay), self._fetch(relay))
        return relay

    def _seed(self, relay: Relay) -> dict[str, Any]:
        if not relay.seed:
            return {}
        self.sent.append(relay.seed)
        if self._seed_fails(relay.seed, ""):
            return {relay.seed: LACKS}
        self.holding.add(relay.seed)
        return {relay.seed: {**HELD, "wanted": True}}

    def _fetch(self, relay: Relay) -> dict[str, Any]:
        self.rounds += bool(relay.fetches)
        results: dict[str, Any] = {}
        assert len(set(relay.fetches.values())) == len(relay.fetches), "a source gives to one node in a round"
        for node, source in relay.fetches.items():
            assert source in self.holding
            assert node not in self.holding
            failed = self._fetch_fails(node, source)
            results[node] = {"held": False, "problem": "refused"} if failed else ARRIVED
        self.holding.update(node for node, result in results.items() if result["held"])
        return results


@pytest.mark.parametrize(("size", "rounds"), [(1, 0), (2, 1), (3, 2), (8, 3), (9, 4), (1000, 10)])
def test_the_controller_sends_one_copy_and_the_rest_doubles(size: int, rounds: int) -> None:
    fleet = Fleet(size)
    relay = fleet.run()
    assert len(fleet.sent) == relay.copies == 1
    assert fleet.rounds == relay_rounds.rounds(size, 1) == rounds
    assert fleet.holding == set(fleet.nodes)
    assert relay.problems == {}


@pytest.mark.parametrize(("size", "holders", "rounds"), [(4, 4, 0), (4, 1, 2), (8, 4, 1), (100, 3, 6)])
def test_it_sends_nothing_when_a_node_holds_it(size: int, holders: int, rounds: int) -> None:
    fleet = Fleet(size, holders)
    assert fleet.run().copies == 0
    assert fleet.sent == []
    assert fleet.rounds == relay_rounds.rounds(size, holders) == rounds
    assert fleet.holding == set(fleet.nodes)


def test_a_second_copy_goes_out_when_the_first_node_is_lost_and_no_third() -> None:
    fleet = Fleet(4, seed_fails=lambda node, _source: node == "node0")
    relay = fleet.run()
    assert fleet.sent == ["node0", "node1"]
    # node0 is asked to fetch like any other: what was lost may have been the copy alone.
    assert fleet.holding == set(fleet.nodes)
    assert relay.problems == {}
    hopeless = Fleet(4, seed_fails=lambda _node, _source: True)
    relay = hopeless.run()
    assert len(hopeless.sent) == relay.copies == MAX_COPIES
    assert set(relay.problems) == set(hopeless.nodes)


def test_a_node_that_reaches_nobody_is_given_up_and_the_others_are_not() -> None:
    fleet = Fleet(6, fetch_fails=lambda node, _source: node == "node3")
    relay = fleet.run()
    assert fleet.holding == set(fleet.nodes) - {"node3"}
    assert relay.problems == {"node3": "refused"}


def test_a_source_that_nobody_reaches_is_left_out() -> None:
    fleet = Fleet(6, holders=2, fetch_fails=lambda _node, source: source == "node0")
    relay = fleet.run()
    assert fleet.holding == set(fleet.nodes)
    assert relay.doubts["node0"] < MAX_TRIES + 2
    assert relay.problems == {}


def test_a_node_that_leaves_the_play_is_not_asked_again() -> None:
    relay = relay_rounds.begin(["a", "b"], {"a": HELD, "b": LACKS})
    assert relay.fetches == {"b": "a"}
    relay = relay_rounds.proceed(relay, {}, {"b": {"failed": True, "msg": "disk full"}})
    assert (relay.done, relay.problems) == (True, {"b": "disk full"})


def test_a_node_without_an_answer_takes_no_part() -> None:
    relay = relay_rounds.begin(["a", "b", "c"], {"a": HELD, "b": {"failed": True, "msg": "no"}})
    assert relay.done
    assert relay.copies == 0


@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 2**32))
def test_whatever_fails_it_ends_and_every_node_holds_it_or_has_a_reason(size: int, holders: int, seed: int) -> None:
    chance = random.Random(seed)
    fleet = Fleet(
        size,
        min(size, holders),
        seed_fails=lambda _node, _source: chance.random() < 0.3,
        fetch_fails=lambda _node, _source: chance.random() < 0.3,
    )
    relay = fleet.run()
    assert len(fleet.sent) <= MAX_COPIES
    assert fleet.holding.isdisjoint(relay.problems)
    assert fleet.holding | set(relay.problems) == set(fleet.nodes)
