# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with an inventory though each of its settings is valid by itself. All of it comes at once."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.masking import is_secret_name

from . import launchers, peers
from .comparison import outliers
from .findings import Finding
from .launch_plan import address, ranks
from .override_options import InvalidOverride, override_options
from .settings import Values


def check(values: Mapping[str, Values]) -> list[Finding]:
    """What is wrong with settings that are each valid by itself."""
    return [
        *_check_ranks(values),
        *_check_roots(values),
        *_check_ports(values),
        *_check_secrets(values),
        *_check_overrides(values),
        *_check_rendezvous(values),
        *_check_head(values),
        *_check_peers(values),
        *_check_infiniband(values),
    ]


def _check_ranks(values: Mapping[str, Values]) -> list[Finding]:
    rank_of = ranks(values)
    remedy = "give every node an axolotl_node_rank, each once and from 0 without a gap; or give none of them one"
    without = [node for node in values if node not in rank_of]
    if without:
        return [
            Finding(
                "rank_missing", tuple(without), "axolotl_node_rank on all nodes or on none", "some have one", remedy
            )
        ]
    wanted = set(range(len(values)))
    nodes_of: dict[int, list[str]] = {}
    for node, rank in rank_of.items():
        nodes_of.setdefault(rank, []).append(node)
    wrong = [node for rank, nodes in nodes_of.items() if len(nodes) > 1 or rank not in wanted for node in nodes]
    if not wrong:
        return []
    found = ", ".join(f"{node}: {rank_of[node]}" for node in wrong[:8])
    return [Finding("rank_invalid", tuple(wrong), f"each rank from 0 to {len(values) - 1} exactly once", found, remedy)]


def _check_roots(values: Mapping[str, Values]) -> list[Finding]:
    if next(iter(values.values())).storage == "shared":
        return _check_shared_root(values)
    machines: dict[str, list[str]] = {}
    for node, known in values.items():
        machines.setdefault(known.machine or node, []).append(node)
    findings = []
    for machine, nodes in machines.items():
        roots = [values[node].root for node in nodes]
        if len(set(roots)) < len(roots):
            findings.append(
                Finding(
                    "root_shared",
                    tuple(nodes),
                    f"nodes on one machine ({machine}) have a root each",
                    f"axolotl_root: {', '.join(roots[:4])}",
                    "set another axolotl_root in the host_vars of each node that shares the machine",
                )
            )
    alone = {nodes[0]: values[nodes[0]].root for nodes in machines.values() if len(nodes) == 1}
    if len(set(alone.values())) > 1:
        found = "; ".join(f"{node}: {root}" for node, root in list(alone.items())[:8])
        remedy = (
            "set axolotl_root once, in group_vars; only nodes that share a machine (axolotl_machine) may differ in it"
        )
        findings.append(Finding("root_differs", tuple(alone), "one axolotl_root on all machines", found, remedy))
    return findings


def _check_shared_root(values: Mapping[str, Values]) -> list[Finding]:
    roots = {node: known.root for node, known in values.items()}
    expected, others = outliers(roots, head=next(iter(roots)))
    nodes = tuple(node for group in others.values() for node in group)
    found = "; ".join(f"{node}: {roots[node]}" for node in nodes[:8])
    remedy = "mount the storage at the same path on all nodes, and set axolotl_root once, in group_vars"
    wanted = f"one axolotl_root on all nodes, as on most: {expected}, since axolotl_storage is shared"
    return [Finding("root_differs", nodes, wanted, found, remedy)] if nodes else []


def _check_ports(values: Mapping[str, Values]) -> list[Finding]:
    fleet = next(iter(values.values()))
    if fleet.master_port != fleet.watch_port:
        return []
    remedy = "set axolotl_watch_port to another port than axolotl_master_port"
    return [Finding("port_twice", (), "two different ports", f"both are {fleet.master_port}", remedy)]


def _check_secrets(values: Mapping[str, Values]) -> list[Finding]:
    fleet = next(iter(values.values()))
    exposed = [f"{name} in axolotl_environment" for name in sorted(fleet.environment) if is_secret_name(name)]
    exposed += [f"{name} in axolotl_overrides" for name in _key_names(fleet.overrides) if is_secret_name(name)]
    # ssh://git@host is no secret: a user name alone is one only where it stands for a token, as with https
    for name in ("repository", "requirements", "training_files"):
        if re.search(r"https?://[^/@\s]+@|[?&](?:\w+-)*sig(?:nature)?=", str(fleet[f"axolotl_{name}"]), re.IGNORECASE):
            exposed.append(f"a credential in axolotl_{name}")
    if not exposed:
        return []
    remedy = (
        "move it to axolotl_secrets, its value in Ansible Vault (a repository's to git's credential helper): "
        "plan, command line and reports are no place for it"
    )
    return [Finding("secret_exposed", (), "no secret outside axolotl_secrets", ", ".join(exposed), remedy)]


def _key_names(overrides: Mapping[str, Any]) -> list[str]:
    """Every key, at any depth."""
    found = []
    for name, value in overrides.items():
        found += [str(name), *(_key_names(value) if isinstance(value, Mapping) else [])]
    return found


def _check_overrides(values: Mapping[str, Values]) -> list[Finding]:
    fleet = next(iter(values.values()))
    findings = []
    for key, value in fleet.overrides.items():
        try:
            override_options({key: value})
        except InvalidOverride as error:
            remedy = "correct axolotl_overrides: it takes keys of the Axolotl config"
            findings.append(
                Finding("override_invalid", (), "overrides that Axolotl takes for config keys", str(error), remedy)
            )
    return findings


def _check_rendezvous(values: Mapping[str, Values]) -> list[Finding]:
    fleet = next(iter(values.values()))
    findings = []
    if fleet.rendezvous == "c10d" and fleet.launcher not in launchers.C10D | {launchers.AUTO}:
        expected = f"axolotl_rendezvous: static with axolotl_launcher: {fleet.launcher}"
        remedy = f"set axolotl_rendezvous to static, or axolotl_launcher to {' or '.join(sorted(launchers.C10D))}"
        findings.append(Finding("rendezvous_invalid", (), expected, "c10d", remedy))
    if fleet.max_restarts and fleet.rendezvous != "c10d":
        expected = "axolotl_max_restarts: 0 with a static rendezvous, which knows no second round"
        remedy = "set axolotl_rendezvous to c10d, or axolotl_max_restarts to 0"
        findings.append(Finding("rendezvous_invalid", (), expected, str(fleet.max_restarts), remedy))
    return findings


def _check_head(values: Mapping[str, Values]) -> list[Finding]:
    rank_of = ranks(values)
    head = min(rank_of, key=rank_of.__getitem__, default=next(iter(values)))
    machines = {known.machine or node for node, known in values.items()}
    where = address(head, values[head])
    try:
        loopback = ipaddress.ip_address(where).is_loopback
    except ValueError:
        loopback = where == "localhost"
    if not loopback or len(machines) < 2:
        return []
    expected = "an address by which the other machines reach the head"
    return [
        Finding(
            "head_loopback",
            (head,),
            expected,
            where,
            "set axolotl_address of the head to its address on the data network",
        )
    ]


def _check_peers(values: Mapping[str, Values]) -> list[Finding]:
    """With `auto` a name matters only on a node whose firewall is active, and is refused there."""
    fleet = next(iter(values.values()))
    names = peers.addresses(values)[1]
    if fleet.firewall in ("auto", "none") or not names:
        return []
    hosts = tuple(node for node, known in values.items() if address(node, known) in names)
    remedy = "set axolotl_address of these nodes to their IP address on the data network"
    expected = f"IP addresses, to open {fleet.firewall} to"
    return [Finding("peer_unresolved", hosts, expected, ", ".join(names[:8]), remedy)]


def _check_infiniband(values: Mapping[str, Values]) -> list[Finding]:
    fleet = next(iter(values.values()))
    if fleet["infiniband_provider"] != "doca":
        return []
    needed = {
        "infiniband_doca_version": "an exact version of DOCA, such as 3.2.1",
        "infiniband_doca_key": "the path of the key that signs DOCA's repository",
    }
    remedy = "set {} in the inventory (group_vars of axolotl_nodes), or infiniband_provider to inbox"
    return [
        Finding("setting_missing", (), f"{name}: {expected}", "not set", remedy.format(name))
        for name, expected in needed.items()
        if not fleet[name]
    ]
