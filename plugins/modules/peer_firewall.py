#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: peer_firewall
short_description: Open a node's firewall to its peers, and to nobody else
version_added: "0.1.0"
description:
  - Opens O(ports), and the range from which the node's kernel chooses ports, to and from O(peers) in each firewall that
    filters on the node. Everything else that an earlier call opened is closed again.
  - A firewall is only ever changed by its own tools. None is started, enabled, stopped or flushed.
  - What is opened outlives a reload or restart of the firewall and a reboot, and carries the name C(gpufleet).
author:
  - gpufleet.axolotl contributors (@gpufleet)
options:
  backend:
    description:
      - V(auto) opens in every firewall that is active, since a packet has to pass all of them. Where none is active,
        nothing is filtered, and nothing is done.
      - V(firewalld), V(ufw) and V(nftables) open in that one alone, and fail where it is not active.
      - V(none) opens nothing and removes what was opened.
    type: str
    choices: [auto, firewalld, ufw, nftables, none]
    default: auto
  peers:
    description: Addresses and networks of all nodes in CIDR form, which do not overlap.
    type: list
    elements: str
    default: []
  names:
    description: Names among the peers whose address is not known; an active firewall can't be opened to them.
    type: list
    elements: str
    default: []
  ports:
    description: TCP ports and ranges (V(10002-19999)) beside the kernel's own range.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: Reads everything and changes nothing.
  diff_mode:
    support: full
    description: Shows every rule and peer before and after.
"""

EXAMPLES = r"""
- name: Open the rendezvous port and the trainers' own to two peers
  gpufleet.axolotl.peer_firewall:
    peers: [198.51.100.10/31]
    ports: ["29500", "29501"]
  become: true
"""

RETURN = r"""
active:
  description: The firewalls that filter what was to be opened.
  type: list
  elements: str
  returned: success
open:
  description: Those that are open to the peers now, or would be without check mode.
  type: list
  elements: str
  returned: success
ports:
  description: The TCP ports and ranges that are open there.
  type: list
  elements: str
  returned: success
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.firewall_opening import (
    NotActive,
    Opening,
    merged_ports,
    to_open,
)
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import firewall_nftables, firewall_record, firewalls
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.firewall_tools import FirewallError


def main():
    """Compare what each firewall holds of ours with what it has to hold, and change it where they differ."""
    module = AnsibleModule(
        argument_spec={
            "backend": {
                "type": "str",
                "choices": ["auto", "firewalld", "ufw", "nftables", "none"],
                "default": "auto",
            },
            "peers": {"type": "list", "elements": "str", "default": []},
            "names": {"type": "list", "elements": "str", "default": []},
            "ports": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    if os.geteuid() != 0:
        module.fail_json(msg="only root can read and change a firewall: use become, or set axolotl_firewall to none")
    try:
        keep_open(module, module.params)
    except (FirewallError, NotActive) as error:
        module.fail_json(msg=str(error))


def keep_open(module, options):
    """Do what the module is for, and exit with the result."""
    opening = Opening(tuple(options["peers"]), merged_ports(firewalls.local_port_range(), *options["ports"]))
    backends = firewalls.backends(opening)
    active = [backend.name for backend in backends if backend.active()]
    targets = to_open(options["backend"], active)
    if options["backend"] != "none":
        warn_or_refuse(module, options, active, targets)
    if not opening.peers:
        targets = []

    steps, diff = [], []
    kept: list[firewalls.Firewall] = [*backends, firewall_record.Record(targets)]
    for backend in kept:
        what = opening if backend.name in targets else None
        if what and isinstance(backend, firewall_nftables.Nftables) and not backend.outlives_reboot():
            module.warn("nftables.service does not load the rules of some nodes: provision again after a reboot there")
        found, wanted = backend.found(), backend.wanted(what)
        if found != wanted:
            steps.append((backend, what))
            diff += [
                {"before_header": name, "before": found[name], "after_header": name, "after": wanted[name]}
                for name in wanted
                if found[name] != wanted[name]
            ]
    if not module.check_mode:
        for backend, what in steps:
            backend.apply(what)
            if backend.found() != backend.wanted(what):
                raise FirewallError(
                    f"{backend.name} took the change and does not hold it; -v --diff shows what differs"
                )
    module.exit_json(changed=bool(steps), active=active, open=targets, ports=list(opening.ports), diff=diff)


def warn_or_refuse(module, options, active, targets):
    """Say what keeps peers out or lets strangers in, although this module can't change it."""
    iptables = [] if {"firewalld", "ufw"} & set(active) else firewalls.iptables_filtering()
    if iptables and options["backend"] == "auto":
        raise FirewallError(
            f"expected firewalld, ufw or nftables, and found iptables rules that are none of these filtering in "
            f"{', '.join(iptables)}: accept TCP ports {', '.join(options['ports'])} and {firewalls.local_port_range()} "
            "from and to the peers there yourself, and set axolotl_firewall to none"
        )
    if options["names"] and targets:
        raise FirewallError(
            f"expected IP addresses, to open {' and '.join(targets)} to, and found {', '.join(options['names'][:8])}: "
            "set axolotl_address of these nodes to their IP address on the data network"
        )
    others = [name for name in [*active, *(["iptables"] if iptables else [])] if name not in targets]
    if others and targets:
        module.warn(f"{' and '.join(others)} filters here too and was not opened, since axolotl_firewall names another")
    if not active and not iptables:
        # The same words on every node, so that Ansible shows them once.
        module.warn("no firewall is active on some nodes: nothing had to be opened there, and strangers get in")


if __name__ == "__main__":
    main()
