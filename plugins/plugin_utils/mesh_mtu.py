# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether packets of full size get through, and whether the nodes agree on what full size is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import mesh_protocol as protocol

from .comparison import outliers
from .findings import WARNING, Finding, names
from .mesh_blame import both_ways
from .mesh_view import Mesh


def black_holes(mesh: Mesh) -> Iterator[Finding]:
    """Paths on which lines pass and a bulk stalls, but not in small packets."""
    vanished = _vanished(mesh)
    if not vanished:
        return
    ends, pairs = mesh.blame_ends(vanished)
    expected = f"{protocol.BULK // 1024} KiB get through in packets of full size, as they do in small ones"
    remedy = (
        "give the interfaces the MTU that every switch and tunnel between them takes, or raise it there; let ICMP "
        '"fragmentation needed" (IPv6: "packet too big") pass'
    )
    if ends:
        hosts = mesh.names_of(ends)
        found = f"large packets vanish on the way to and from every other machine; {_interfaces(mesh, hosts)}"
        yield Finding("mtu_blackhole", hosts, expected, found, remedy)
    if pairs:
        hosts = mesh.both_ends(pairs)
        found = f"large packets vanish: {mesh.shown(pairs, '<->')}; {_interfaces(mesh, hosts)}"
        yield Finding("mtu_blackhole", hosts, expected, found, remedy)


def _vanished(mesh: Mesh) -> dict[int, set[int]]:
    by_outcome = mesh.failed()
    found: dict[int, set[int]] = {}
    for said in (protocol.VANISH_THERE, protocol.VANISH_BACK):
        for source, row in by_outcome.get(said, {}).items():
            found.setdefault(source, set()).update(row)
    return both_ways(found)


def _interfaces(mesh: Mesh, nodes: Sequence[str]) -> str:
    """The MTUs of the nodes' interfaces, for people."""
    by_mtu: dict[int, list[str]] = {}
    asked = set(nodes)
    for node, mtu in _interface_mtus(mesh).items():
        if node in asked:
            by_mtu.setdefault(mtu, []).append(node)
    shown = "; ".join(f"{mtu} on {names(group, 3)}" for mtu, group in sorted(by_mtu.items()))
    return f"MTU of the interface: {shown or 'not known'}"


def _interface_mtus(mesh: Mesh) -> dict[str, int]:
    """For each node the MTU of the interface through which most others are reached."""
    return {
        node: max(by_mtu, key=lambda mtu: (len(by_mtu[mtu]), mtu)) for node, by_mtu in mesh.afar("interfaces").items()
    }


def paths(mesh: Mesh) -> Iterator[Finding]:
    """Paths that are narrower than the interfaces at their ends; interfaces that differ are mtu_differs' matter."""
    different = outliers(_interface_mtus(mesh), head=mesh.plan["head"])
    explained = {mesh.position[node] for nodes in different.found.values() for node in nodes}
    usual, black_holes = different.expected, _vanished(mesh)
    narrow: dict[int, dict[int, int]] = {}
    for node, by_mtu in mesh.afar("paths").items():
        source = mesh.position[node]
        for mtu, positions in by_mtu.items():
            others = set(positions) - explained - black_holes.get(source, set())
            if mtu != usual and others and source not in explained:
                narrow.setdefault(source, {}).update(dict.fromkeys(others, mtu))
    ends, left = mesh.blame_ends({source: set(row) for source, row in narrow.items()})
    expected = f"paths with MTU {usual}, as the interfaces at both ends"
    remedy = "look for a switch, tunnel or VPN with a smaller MTU between them"
    if ends:
        found = f"{_sizes(narrow, set(ends))} to every other machine"
        yield Finding("path_mtu", mesh.names_of(ends), expected, found, remedy, WARNING)
    if left:
        sizes = _sizes(narrow, {*left, *(target for row in left.values() for target in row)})
        found = f"{sizes}: {mesh.shown(left, '<->')}"
        yield Finding("path_mtu", mesh.both_ends(left), expected, found, remedy, WARNING)


def _sizes(paths: Mapping[int, Mapping[int, int]], nodes: Set[int]) -> str:
    """The MTUs of the paths from and to these nodes; the two directions may differ."""
    found = {mtu for source, row in paths.items() for target, mtu in row.items() if source in nodes or target in nodes}
    return "MTU " + ", ".join(str(mtu) for mtu in sorted(found))
