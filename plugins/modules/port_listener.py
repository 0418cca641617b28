#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: port_listener
short_description: Listen on ports for a short while, so that others can try to reach them
version_added: "0.1.0"
description:
  - Before a launch nothing listens on the rendezvous port, so a plain connection test would always fail. This opens the
    port for O(seconds) at most, answers whoever connects with O(word), and closes by itself.
author:
  - gpufleet.axolotl contributors (@gpufleet)
attributes:
  check_mode:
    support: full
    description: It listens in check mode too; the socket is gone after O(seconds) and nothing else is changed.
  diff_mode:
    support: none
    description: It changes nothing that lasts.
options:
  address:
    description: The address to listen on; where it is none of this machine's (NAT), all addresses.
    type: str
    required: true
  ports:
    description: The ports to open.
    type: list
    elements: int
    required: true
  word:
    description: What to answer.
    type: str
    required: true
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
- name: Listen on the rendezvous port for half a minute
  gpufleet.axolotl.port_listener:
    address: node0
    ports: [29500]
    word: "{{ run_id }}"
"""

RETURN = r"""
listening:
  description: The ports that are open now.
  returned: always
  type: list
  elements: int
refused:
  description: The ports that could not be opened, with the reason and the process that holds them where readable.
  returned: always
  type: dict
listener:
  description: The listener's identity (pid and start time), to close it with.
  returned: always
  type: list
  elements: int
"""

import errno
import selectors
import signal
import socket
import time

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.node import processes, sockets
from ..module_utils.node.detached import detach


def open_port(address: str, port: int) -> socket.socket:
    """Listen on the address, or on all where it is not this machine's."""
    address = sockets.serving_address(address) or "0.0.0.0"  # noqa: S104 - as the watch
    family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
    server = socket.socket(family, socket.SOCK_STREAM)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            server.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))  # noqa: S104 - as the rendezvous store
        server.listen(1024)
    except BaseException:
        server.close()
        raise
    return server


def serve(servers: list, word: bytes, seconds: float) -> None:
    """Answer everybody until the time is up."""
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for server in servers:
            selector.register(server, selectors.EVENT_READ, data=server)
        while time.monotonic() < deadline:
            for key, _events in selector.select(timeout=deadline - time.monotonic()):
                try:
                    connection = key.data.accept()[0]
                    connection.sendall(word + b"\n")
                    connection.close()
                except OSError:
                    continue


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "ports": {"type": "list", "elements": "int", "required": True},
            "word": {"type": "str", "required": True},
            "seconds": {"type": "float", "default": 30.0},
            "close": {"type": "list", "elements": "int"},
        },
        supports_check_mode=True,
    )
    options = module.params
    if options["close"]:
        processes.send_signal(processes.Identity(*options["close"]), signal.SIGTERM)
        processes.wait_until_gone([processes.Identity(*options["close"])], seconds=5)
        module.exit_json(changed=False, listening=[], refused={}, listener=[])
    servers, refused = [], {}
    for port in options["ports"]:
        try:
            servers.append(open_port(options["address"], port))
        except OSError as error:
            holder = sockets.port_holder(port)
            refused[str(port)] = {"error": error.strerror or str(error), "holder": holder._asdict() if holder else None}
    listening = [server.getsockname()[1] for server in servers]
    word = options["word"].encode()
    listener = list(detach(lambda: serve(servers, word, options["seconds"]))) if servers else []
    module.exit_json(changed=False, listening=listening, refused=refused, listener=listener)


if __name__ == "__main__":
    main()
