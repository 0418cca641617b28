#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: file_server
short_description: Offers a file or tree to other nodes for a while
version_added: 0.1.0
description:
  - When the node holds all O(entries) at O(path), a process of its own serves them, on a port that the kernel chooses,
    to whoever proves to know O(key). It ends by itself.
  - A node that does not hold them offers nothing, which is no failure.
author:
  - gpufleet.axolotl contributors (@gpufleet)
options:
  path:
    description: The file or folder.
    type: path
    required: true
  entries:
    description: What it must hold, as M(gpufleet.axolotl.tree_digest) lists it.
    type: list
    elements: dict
    required: true
  wanted:
    description:
      - Whether this node needs the content itself. Then all of it is read and held against the digests; for others,
        whose peers do that when they fetch, sizes are enough.
    type: bool
    default: false
  room:
    description:
      - Bytes that a node that needs the content has to have free beside it, for what is made of it later.
      - Where it lacks the content and has no room for both, it fails before anything is written.
    type: int
    default: 0
  address:
    description: The node's address for its peers; where it is none of this machine's (NAT), all addresses.
    type: str
    required: true
  key:
    description: The one-time key.
    type: str
    required: true
  idle:
    description: Seconds without a peer after which it ends.
    type: float
    default: 1800.0
  seconds:
    description: Seconds after which it ends in any case.
    type: float
    default: 43200.0
  close:
    description: The server's identity, as RV(server) gave it; given, that server is ended instead.
    type: list
    elements: int
attributes:
  check_mode:
    support: full
    description: In check mode it says what the node holds, and offers nothing.
  diff_mode:
    support: none
    description: It changes nothing that lasts.
"""

EXAMPLES = r"""
- name: Offer the delivery
  gpufleet.axolotl.file_server:
    path: /srv/axolotl/releases/067b021c8b87-1f0c9d2ab34e/delivery
    entries: "{{ pack.entries }}"
    address: 10.0.0.1
    key: "{{ key }}"
"""

RETURN = r"""
held:
  description: Whether the node holds everything.
  type: bool
  returned: always
wanted:
  description: The same as O(wanted).
  type: bool
  returned: always
digest:
  description: Digest over all O(entries).
  type: str
  returned: success
port:
  description: The port on which it is offered; 0 where it is not.
  type: int
  returned: always
server:
  description: The server's identity (pid and start time), to close it with.
  type: list
  elements: int
  returned: always
"""

import signal

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.core.manifest import root_digest
from ..module_utils.core.relay_protocol import RelayError, read_entries
from ..module_utils.node import processes, relay_server
from ..module_utils.node.disk_room import free_bytes, too_small
from ..module_utils.node.relay_client import bytes_to_come, lacking


def main():
    """Offer what is there, or end an earlier server."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "entries": {"type": "list", "elements": "dict", "required": True},
            "wanted": {"type": "bool", "default": False},
            "room": {"type": "int", "default": 0},
            "address": {"type": "str", "required": True},
            "key": {"type": "str", "required": True, "no_log": True},
            "idle": {"type": "float", "default": 1800.0},
            "seconds": {"type": "float", "default": 43200.0},
            "close": {"type": "list", "elements": "int"},
        },
        supports_check_mode=True,
    )
    params = module.params
    result = {"changed": False, "held": False, "wanted": params["wanted"], "port": 0, "server": []}
    if params["close"]:
        server = processes.Identity(*params["close"])
        processes.send_signal(server, signal.SIGTERM)
        processes.wait_until_gone([server], seconds=5)
        module.exit_json(**result)
    try:
        entries = read_entries(params["entries"])
        result["digest"] = root_digest(entries)
        missing = lacking(params["path"], entries, read=params["wanted"])
        result["held"] = not missing
        if missing and params["wanted"]:
            needed, free = bytes_to_come(params["path"], entries, missing) + params["room"], free_bytes(params["path"])
            if needed > free:
                module.fail_json(msg=too_small(params["path"], needed, free, "what is to come"), **result)
        if result["held"] and not module.check_mode:
            offer = relay_server.Offer(params["path"], entries, params["key"])
            port, server = relay_server.start(offer, params["address"], params["idle"], params["seconds"])
            result.update(port=port, server=list(server))
    except (RelayError, OSError) as error:
        module.fail_json(msg=f"{params['path']} can't be offered at {params['address']}: {error}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
