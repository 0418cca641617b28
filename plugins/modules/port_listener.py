#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: port_listener
short_description: Listen on ports for a short while, so that the other nodes can try to reach them
version_added: "0.1.0"
description:
  - Before a launch nothing listens on any port of the run, so a plain connection test would always fail. This opens
    a port as NCCL and gloo get theirs, out of the kernel's ephemeral range, and the given ports besides.
  - What answers is a process of its own, which ends by itself after O(seconds). It says nothing to anybody who does not
    know its word; M(gpufleet.axolotl.port_probe) does.
author:
  - gpufleet.axolotl contributors (@gpufleet)
attributes:
  check_mode:
    support: full
    description: It listens in check mode too; the sockets are gone after O(seconds) and nothing else is changed.
  diff_mode:
    support: none
    description: It changes nothing that lasts.
options:
  address:
    description: The address to listen on; where it is none of this machine's (NAT), all addresses. Needed to listen.
    type: str
  ports:
    description:
      - Ports to open besides the one that the kernel chooses. While a run is active in O(runs) they stay closed, and
        when one starts they are closed at once, for it may be about to listen on them.
    type: list
    elements: int
    default: []
  runs:
    description: Absolute path of the folder with this node's runs.
    type: path
  names:
    description: Names to resolve on this node, for the others to compare with.
    type: list
    elements: str
    default: []
  seconds:
    description: How long to listen at most.
    type: float
    default: 30.0
  close:
    description: The listener's identity, as an earlier call returned it; given, that listener is closed instead.
    type: list
    elements: int
"""

EXAMPLES = r"""
- name: Listen for half a minute, on the rendezvous port too
  gpufleet.axolotl.port_listener:
    address: node0
    ports: [29500]
    runs: /opt/axolotl/runs
  register: listener

- name: Close the ports again
  gpufleet.axolotl.port_listener:
    close: "{{ listener.listener }}"
"""

RETURN = r"""
listening:
  description: The ports that are open now, the one that the kernel chose first.
  returned: always
  type: list
  elements: int
refused:
  description:
    - The ports that could not be opened (V(0) is the one that the kernel chooses), with the reason (C(error)), the
      process that holds them where readable (C(holder)) and the run that may want them (C(run)).
  returned: always
  type: dict
word:
  description: What to say to this listener. It is made anew for each.
  returned: always
  type: str
names:
  description: Each of O(names) to the addresses that it resolves to here.
  returned: always
  type: dict
listener:
  description: The listener's identity (pid and start time), to close it with.
  returned: always
  type: list
  elements: int
"""

import secrets
import signal

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.node import mesh_listener, names, processes, run_reader, sockets
from ..module_utils.node.detached import detach
from ..module_utils.node.mesh_listener import MeshListener, NewRuns

RESOLVE_SECONDS = 10.0
START_SECONDS = 15.0
"""For so long a run may have its folder and no supervisor on record (see STARTED_WITHIN in supervisor_start)."""


def run_that_wants_the_ports(runs: str) -> str:
    """The id of a run that is active or just starting; empty where there is none."""
    active = [run.run_id for run in run_reader.active_runs(runs)] or run_reader.starting_runs(runs, START_SECONDS)
    return active[-1] if active else ""


def listen(options: dict) -> dict:
    """Open the ports, and have a process of its own answer there."""
    runs = NewRuns(options["runs"] or "")  # before looking for a run, so that none can slip in between
    run = run_that_wants_the_ports(options["runs"]) if options["runs"] and options["ports"] else ""
    opened: dict = {0: None, **dict.fromkeys(options["ports"])}
    refused: dict = {}
    for port in opened:
        if port and run:
            refused[str(port)] = {"error": f"run {run} is active", "holder": None, "run": run}
            continue
        try:
            opened[port] = mesh_listener.open_port(options["address"], port)
        except OSError as error:
            holder = sockets.port_holder(port) if port else None
            refused[str(port)] = {
                "error": error.strerror or str(error),
                "holder": holder._asdict() if holder else None,
                "run": "",
            }
    servers = {port: server for port, server in opened.items() if server}
    word = secrets.token_hex(8)
    listening = [server.getsockname()[1] for server in servers.values()]
    identity: list = []
    if servers:
        own = [server for port, server in servers.items() if not port]
        lent = [server for port, server in servers.items() if port]
        listener = MeshListener(own, word, lent, runs)
        identity = list(detach(lambda: listener.serve(options["seconds"])))
    return {"listening": listening, "refused": refused, "word": word, "listener": identity}


def close(identity: processes.Identity) -> dict:
    """End that very process, if it is still there."""
    processes.send_signal(identity, signal.SIGTERM)
    processes.wait_until_gone([identity], seconds=5)
    return {"listening": [], "refused": {}, "word": "", "listener": []}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str"},
            "ports": {"type": "list", "elements": "int", "default": []},
            "runs": {"type": "path"},
            "names": {"type": "list", "elements": "str", "default": []},
            "seconds": {"type": "float", "default": 30.0},
            "close": {"type": "list", "elements": "int"},
        },
        required_one_of=[("address", "close")],
        supports_check_mode=True,
    )
    options = module.params
    result = close(processes.Identity(*options["close"])) if options["close"] else listen(options)
    unresolved = [name for name in options["names"] if not names.is_address(name)]
    module.exit_json(changed=False, names=names.resolve_all(unresolved, RESOLVE_SECONDS), **result)


if __name__ == "__main__":
    main()
