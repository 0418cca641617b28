# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who fetches from whom, round by round, so that the controller sends one copy whatever the number of nodes is.

Each round, every node that holds the content gives it to one that lacks it, so that their number doubles: N nodes take
about log2(N) rounds. Nodes that hold it already are the first sources. Each round is planned from what the last one
did, so a node that fails neither stops the others nor leaves those without that would have fetched from it. Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

MAX_COPIES = 2
"""Copies that the controller sends at most: the second only where the first node was lost before anybody had it."""
MAX_TRIES = 3
"""Sources that a node tries before it is given up."""


@dataclasses.dataclass
class Relay:
    """How far a relay has come. JSON-able as a dict, since it goes from task to task.

    Attributes:
        ports: the nodes that offer it, with their ports.
        servers: identity of the process that offers it, by node.
        tries: the nodes that still lack it, with the number of failed attempts.
        doubts: how often each source was the one that an attempt failed with.
        problems: why a node has been given up, or what its last attempt said.
        copies: how many copies the controller has sent.
        seed: the node that the controller sends to in this round, or None.
        fetches: fetching node to source in this round.
        done: whether there is nothing more to do.
    """

    ports: dict[str, int] = dataclasses.field(default_factory=dict)
    servers: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    tries: dict[str, int] = dataclasses.field(default_factory=dict)
    doubts: dict[str, int] = dataclasses.field(default_factory=dict)
    problems: dict[str, str] = dataclasses.field(default_factory=dict)
    copies: int = 0
    seed: str | None = None
    fetches: dict[str, str] = dataclasses.field(default_factory=dict)
    done: bool = False


def begin(order: Sequence[str], offers: Mapping[str, Mapping[str, Any]]) -> Relay:
    """Start from what each node holds.

    Args:
        order: the nodes that take part.
        offers: what file_server returned on each; a node without a result takes no part.
    """
    relay = Relay()
    for node in order:
        offer = offers.get(node) or {}
        if offer.get("port"):
            _add_source(relay, node, offer)
        elif offer.get("wanted") and not offer.get("failed"):
            relay.tries[node] = 0
    return _plan(relay)


def proceed(relay: Relay, offers: Mapping[str, Mapping[str, Any]], fetched: Mapping[str, Mapping[str, Any]]) -> Relay:
    """Take in what a round has done, and plan the next.

    Args:
        relay: the state that the round was run with.
        offers: what file_server returned; looked at for the seed alone.
        fetched: what file_fetch returned on the nodes that fetched.
    """
    if relay.seed:
        offer = offers.get(relay.seed) or {}
        if offer.get("port"):
            _arrived(relay, relay.seed)
            _add_source(relay, relay.seed, offer)
        else:
            _fail(relay, relay.seed, "what the controller sent did not arrive whole")
    for node, source in relay.fetches.items():
        result = fetched.get(node) or {}
        if result.get("held"):
            _arrived(relay, node)
            if result.get("port"):
                _add_source(relay, node, result)
        else:
            relay.doubts[source] = relay.doubts.get(source, 0) + 1
            _fail(relay, node, str(result.get("problem") or result.get("msg") or "it did not answer"))
            if result.get("failed"):  # that is the node's own trouble, and it has left the play
                relay.tries.pop(node, None)
    return _plan(relay)


def rounds(nodes: int, holders: int) -> int:
    """How many rounds it takes when nothing fails, the controller's own copy not counted."""
    count = 0
    while 0 < holders < nodes:
        holders *= 2
        count += 1
    return count


def _plan(relay: Relay) -> Relay:
    relay.seed, relay.fetches = None, {}
    waiting = sorted(relay.tries, key=lambda node: relay.tries[node])
    if waiting and not relay.ports and relay.copies < MAX_COPIES:
        relay.seed = waiting[0]
        relay.copies += 1
    elif waiting and relay.ports:
        # One that others have failed with comes last.
        sources = sorted(relay.ports, key=lambda node: relay.doubts.get(node, 0))
        relay.fetches = dict(zip(waiting, sources, strict=False))
    relay.done = not relay.seed and not relay.fetches
    if relay.done:
        for node in relay.tries:
            relay.problems.setdefault(node, "no node holds it, and the controller has sent all the copies that it may")
    return relay


def _add_source(relay: Relay, node: str, result: Mapping[str, Any]) -> None:
    relay.ports[node] = int(result["port"])
    relay.servers[node] = [int(number) for number in result["server"]]


def _arrived(relay: Relay, node: str) -> None:
    relay.tries.pop(node, None)
    relay.problems.pop(node, None)


def _fail(relay: Relay, node: str, problem: str) -> None:
    relay.problems[node] = problem
    relay.tries[node] = relay.tries.get(node, 0) + 1
    if relay.tries[node] >= MAX_TRIES:
        del relay.tries[node]
