#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: port_probe
short_description: Try whether ports of another node can be reached
version_added: "0.1.0"
description:
  - Connects to each port and reads the word that M(gpufleet.axolotl.port_listener) answers with, so that neither a
    firewall that accepts for somebody else nor another server on that port passes for the head.
author:
  - gpufleet.axolotl contributors (@gpufleet)
attributes:
  check_mode:
    support: full
    description: It connects in check mode too; nothing is changed by it.
  diff_mode:
    support: none
    description: It changes nothing.
options:
  address:
    description: Address or name of the other node.
    type: str
    required: true
  ports:
    description: The ports to try.
    type: list
    elements: int
    required: true
  word:
    description: What the listener answers.
    type: str
    required: true
  timeout:
    description: Seconds for each port.
    type: float
    default: 5.0
"""

EXAMPLES = r"""
- name: Reach the head
  gpufleet.axolotl.port_probe:
    address: node0
    ports: [29500]
    word: "{{ run_id }}"
"""

RETURN = r"""
ports:
  description: For each port V(reached), or why not, in the words of the system or V(another server answers).
  returned: always
  type: dict
"""

import socket

from ansible.module_utils.basic import AnsibleModule


def probe(address: str, port: int, word: str, timeout: float) -> str:
    """Dial one port; say what came of it."""
    try:
        with socket.create_connection((address, port), timeout=timeout) as connection:
            connection.settimeout(timeout)
            answer = connection.makefile("rb").readline(256).decode("utf-8", "replace").strip()
    except socket.gaierror as error:
        return f"{address} does not resolve ({error.strerror})"
    except OSError as error:
        return str(error.strerror or error).lower()
    return "reached" if answer == word else "another server answers"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "ports": {"type": "list", "elements": "int", "required": True},
            "word": {"type": "str", "required": True},
            "timeout": {"type": "float", "default": 5.0},
        },
        supports_check_mode=True,
    )
    options = module.params
    found = {
        str(port): probe(options["address"], port, options["word"], options["timeout"]) for port in options["ports"]
    }
    module.exit_json(changed=False, ports=found)


if __name__ == "__main__":
    main()
