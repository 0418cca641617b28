#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: file_fetch
short_description: Fetches a file or tree from another node, and offers it in turn
version_added: 0.1.0
description:
  - Fetches what is missing or differs at O(path) from a node where M(gpufleet.axolotl.file_server) offers it. An
    interrupted fetch goes on where it stopped.
  - Each file is held against its digest while it is read, and takes its place in one step when it is whole.
  - A source that does not answer, or gives something else, is no failure; RV(problem) says what happened, so that
    another source can be tried.
author:
  - gpufleet.axolotl contributors (@gpufleet)
options:
  path:
    description: Where the file or folder goes. Files that are there and not listed are left alone.
    type: path
    required: true
  entries:
    description: What it must hold, as M(gpufleet.axolotl.tree_digest) lists it.
    type: list
    elements: dict
    required: true
  source:
    description: Address of the node that offers it.
    type: str
    default: ''
  port:
    description: Its port.
    type: int
    default: 0
  key:
    description: The one-time key.
    type: str
    default: ''
  address:
    description: This node's own address, on which to offer what has come. When empty, it is not offered.
    type: str
    default: ''
  timeout:
    description: Seconds to wait for another fetch on this node to end.
    type: int
    default: 3600
attributes:
  check_mode:
    support: full
    description: In check mode it compares what is there, and dials nobody.
  diff_mode:
    support: none
    description: What is fetched is no reading matter.
"""

EXAMPLES = r"""
- name: Fetch the delivery from a neighbour
  gpufleet.axolotl.file_fetch:
    path: /srv/axolotl/releases/067b021c8b87-1f0c9d2ab34e/delivery
    entries: "{{ pack.entries }}"
    source: 10.0.0.1
    port: 40123
    key: "{{ key }}"
    address: 10.0.0.2
"""

RETURN = r"""
held:
  description: Whether the node holds everything now.
  type: bool
  returned: success
problem:
  description: Why it does not. Empty where it does.
  type: str
  returned: success
digest:
  description: Digest over all O(entries).
  type: str
  returned: success
received:
  description: Bytes that came over the network.
  type: int
  returned: success
port:
  description: The port on which this node offers it now; 0 where it does not.
  type: int
  returned: success
server:
  description: The server's identity (pid and start time), to close it with.
  type: list
  elements: int
  returned: success
"""

import contextlib
import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.core.manifest import root_digest
from ..module_utils.core.relay_protocol import RelayError, read_entries
from ..module_utils.node import relay_server
from ..module_utils.node.disk_room import free_bytes, too_small
from ..module_utils.node.folder_lock import FolderBusy, only_one_in
from ..module_utils.node.relay_client import Source, bytes_to_come, lacking


class FetchError(Exception):
    """This node can't take it; the message says why and what to do."""


def fetch(params, entries, missing):
    """Fetch the missing files; give the bytes that came, and the problem that ended it early."""
    needed = bytes_to_come(params["path"], entries, missing)
    room = free_bytes(params["path"])
    if needed > room:
        raise FetchError(too_small(params["path"], needed, room, "what is still to come"))
    received = 0
    try:
        with contextlib.closing(Source(params["source"], params["port"], params["key"])) as source:
            for number in missing:
                received += source.fetch(params["path"], entries, number)
    except (RelayError, OSError) as error:
        return received, f"{params['source']}:{params['port']}: {error}"
    return received, ""


def main():
    """Fetch unless everything is there."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "entries": {"type": "list", "elements": "dict", "required": True},
            "source": {"type": "str", "default": ""},
            "port": {"type": "int", "default": 0},
            "key": {"type": "str", "default": "", "no_log": True},
            "address": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    params = module.params
    result = {"changed": False, "held": True, "problem": "", "received": 0, "port": 0, "server": []}
    try:
        entries = read_entries(params["entries"])
        result["digest"] = root_digest(entries)
        if module.check_mode:
            result["changed"] = bool(lacking(params["path"], entries, read=True))
            module.exit_json(**{**result, "held": not result["changed"]})
        with only_one_in(os.path.dirname(params["path"]), params["timeout"]):
            missing = lacking(params["path"], entries, read=True)
            if missing:
                received, problem = fetch(params, entries, missing)
                result.update(received=received, problem=problem, changed=received > 0)
        result["held"] = not result["problem"]
        if result["held"] and params["address"]:
            offer = relay_server.Offer(params["path"], entries, params["key"])
            port, server = relay_server.start(offer, params["address"], 1800.0, 43200.0)
            result.update(port=port, server=list(server))
    except (RelayError, FetchError, FolderBusy, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
