# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who does not reach whom, named by the node that explains it rather than by its thousand pairs; one cause once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import mesh_protocol as protocol

from .findings import Finding
from .mesh_blame import Pairs
from .mesh_view import Mesh

Said = Mapping[int, Mapping[int, str]]
"""Source to target to the outcome."""


def examine(mesh: Mesh) -> Iterator[Finding]:
    """The head's ports first, then nodes, then the pairs that neither explains."""
    by_outcome = mesh.failed()
    for said in (protocol.VANISH_THERE, protocol.VANISH_BACK, protocol.UNRESOLVED):  # these have rules of their own
        by_outcome.pop(said, None)
    failed: dict[int, set[int]] = {}
    said_of: dict[int, dict[int, str]] = {}
    for said, pairs in by_outcome.items():
        for source, row in pairs.items():
            failed.setdefault(source, set()).update(row)
            said_of.setdefault(source, {}).update(dict.fromkeys(row, said))
    found = mesh.blame(failed)
    yield from _head(mesh, set(found.outgoing))
    told = _told_of_the_head(mesh, said_of)
    head = mesh.position[mesh.plan["head"]]
    yield from _incoming(
        mesh, [node for node in found.incoming if node != head or not told >= _to(failed, head)], said_of
    )
    yield from _outgoing(mesh, found.outgoing, said_of)
    pairs = {source: row - ({head} if source in told else set()) for source, row in found.pairs.items()}
    yield from _pairs(mesh, pairs, said_of)


def _to(failed: Pairs, target: int) -> set[int]:
    return {source for source, row in failed.items() if target in row}


def _told_of_the_head(mesh: Mesh, said_of: Said) -> set[int]:
    """Nodes that fail at the head's ports as they do at any port of it: head_unreachable says it all."""
    head = mesh.position[mesh.plan["head"]]
    return {
        source
        for source in mesh.sources
        if (ports := set(mesh.probes[mesh.order[source]]["ports"].values()))
        and ports == {said_of.get(source, {}).get(head)}
    }


def _head(mesh: Mesh, outgoing: set[int]) -> Iterator[Finding]:
    """Nodes that don't reach the rendezvous port or the watch port; not those that reach nobody at all."""
    outcomes: dict[tuple[str, str], list[str]] = {}
    for node, probe in mesh.probes.items():
        for port, said in probe["ports"].items():
            if said not in (protocol.REACHED, protocol.UNRESOLVED) and mesh.position[node] not in outgoing:
                outcomes.setdefault((said, port), []).append(node)
    ports_of: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (said, port), nodes in outcomes.items():
        ports_of.setdefault((said, tuple(nodes)), []).append(port)
    head, address = mesh.plan["head"], mesh.plan["head_address"]
    for (said, without), ports in ports_of.items():
        expected = f"{head} ({address}) is reached on port {' and '.join(ports)}"
        yield Finding("head_unreachable", without, expected, said, _why(said, "the head"))


def _incoming(mesh: Mesh, nodes: Iterable[int], said_of: Said) -> Iterator[Finding]:
    for said, blamed in _by_outcome(nodes, lambda node: [row[node] for row in said_of.values() if node in row]).items():
        yield Finding(
            "node_unreachable_by_peers",
            mesh.names_of(blamed),
            "the other nodes reach it on a port that the kernel chooses, as it does for NCCL and gloo",
            f"{said}, from every other machine",
            _why(said, "the node"),
        )


def _outgoing(mesh: Mesh, nodes: Iterable[int], said_of: Said) -> Iterator[Finding]:
    for said, blamed in _by_outcome(nodes, lambda node: list(said_of[node].values())).items():
        remedy = "see to its own side: outgoing firewall rules, routes, the interface towards the data network"
        expected = "it reaches the other nodes, as these reach each other"
        yield Finding("node_reaches_nobody", mesh.names_of(blamed), expected, f"{said}, to every other machine", remedy)


def _by_outcome(nodes: Iterable[int], said: Callable[[int], list[str]]) -> dict[str, list[int]]:
    """The nodes by the outcome that came most often."""
    found: dict[str, list[int]] = {}
    for node in nodes:
        counts = Counter(said(node))
        found.setdefault(max(counts, key=lambda each: (counts[each], each)), []).append(node)
    return found


def _pairs(mesh: Mesh, pairs: Pairs, said_of: Said) -> Iterator[Finding]:
    by_outcome: dict[str, dict[int, set[int]]] = {}
    for source, row in pairs.items():
        for target in row:
            by_outcome.setdefault(said_of[source][target], {}).setdefault(source, set()).add(target)
    for said, failed in by_outcome.items():
        yield Finding(
            "pair_unreachable",
            mesh.both_ends(failed),
            "every node reaches every other one on a port that the kernel chooses, as it does for NCCL and gloo",
            f"{said}: {mesh.shown(failed)}",
            _why(said, "the node"),
        )


def _why(said: str, node: str) -> str:
    """What to do about an outcome."""
    if said in (protocol.STRANGER, protocol.CUT_OFF):
        return f"check axolotl_address of {node}: something else answers there"
    if said == protocol.UNFINISHED:
        return "see to what else is found first: the time went to nodes that did not answer"
    if said == protocol.STALLED:
        return "look for packet loss on the way: errors of the links (ethtool -S), a duplex or bonding fault"
    if "refused" in said or "reset" in said:
        return f"check axolotl_address of {node}, which may lead to another machine, and its firewall, which may reject"
    return "open the port (for NCCL and gloo: all ports) to the peers in every firewall between them; check the routes"
