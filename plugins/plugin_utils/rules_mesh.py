# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the nodes reach each other, judged from what each found when it dialled all the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import mesh_clocks, mesh_mtu, mesh_names, mesh_reachability
from .findings import Finding
from .mesh_view import Mesh, Plan, Results


def targets(plan: Plan, listeners: Results) -> dict[str, Any]:
    """What every node gets to dial and to resolve: one value for all of them.

    Returns:
        ``targets`` ([position, address, word, port, further ports ...] of each node that listens) and ``names`` (what
        the names in use mean on the head).
    """
    rows = [
        [position, part["address"], listeners[node]["word"], *listeners[node]["listening"]]
        for position, (node, part) in enumerate(plan["nodes"].items())
        if listeners.get(node, {}).get("listening")
    ]
    return {"targets": rows, "names": listeners.get(plan["head"], {}).get("names", {})}


def examine(plan: Plan, fingerprints: Results, listeners: Results, probes: Results) -> list[Finding]:
    """Everything that is wrong with the network between the nodes.

    Args:
        plan: the launch plan.
        fingerprints: node to what node_fingerprint returned.
        listeners: node to what port_listener returned.
        probes: node to ``mesh`` of port_probe.
    """
    mesh = Mesh(plan, listeners, probes)
    return [
        *mesh_names.examine(plan, listeners, probes),
        *_claimed(plan, fingerprints, listeners),
        *_addresses(plan, listeners, mesh_names.unresolved(plan, listeners, probes)),
        *mesh_reachability.examine(mesh),
        *mesh_mtu.black_holes(mesh),
        *mesh_mtu.paths(mesh),
        *mesh_clocks.examine(mesh),
    ]


def _claimed(plan: Plan, fingerprints: Results, listeners: Results) -> Iterator[Finding]:
    """A run that started on the head after its fingerprint was taken, so that its ports were left alone, untried."""
    head = plan["head"]
    refused = listeners.get(head, {}).get("refused", {})
    run_ids = dict.fromkeys(why["run"] for why in refused.values() if why["run"])
    for run_id in run_ids:
        if run_id not in fingerprints.get(head, {}).get("active_runs", []):
            remedy = f"wait for its end (status), or end it: stop -e gpufleet_run_id={run_id}"
            yield Finding("run_active", (head,), "no run is active on the nodes", f"run {run_id}", remedy)


def _addresses(plan: Plan, listeners: Results, unresolved: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Nodes that can't listen on their own address; a port with a holder is port_taken's, a run's is run_active's."""
    for node, found in listeners.items():
        address = plan["nodes"][node]["address"]
        refused = {port: why["error"] for port, why in found["refused"].items() if not (why["holder"] or why["run"])}
        if not refused or node in unresolved.get(address, ()):
            continue
        said = "; ".join(f"port {port}: {error}" if int(port) else error for port, error in refused.items())
        expected = f"{node} listens on {address}"
        remedy = f"set axolotl_address of {node} to an address of its own that the other nodes reach"
        if node == plan["head"]:
            yield Finding("head_address", (node,), expected, said, remedy)
        else:
            yield Finding("node_address", (node,), expected, said, remedy)
