# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a bed's inventory: how Ansible reaches each host, with its key checked and as an account without rights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from .bed import ADMINISTRATOR, Bed

FOLDER = Path(__file__).resolve().parents[2] / "inventories" / "hosts"


def connection(bed: Bed) -> dict[str, Any]:
    """Variables that every host of the bed shares."""
    ssh = {"UserKnownHostsFile": bed.known_hosts, "StrictHostKeyChecking": "yes", "IdentitiesOnly": "yes"}
    return {
        "ansible_user": ADMINISTRATOR,
        "ansible_ssh_private_key_file": str(bed.key),
        "ansible_ssh_common_args": " ".join(f"-o {option}={value}" for option, value in ssh.items()),
        # ansible-runner and molecule switch it off by default; a variable is stronger than their environment.
        "ansible_host_key_checking": True,
        "ansible_control_path_dir": str(bed.connections),
        "ansible_python_interpreter": "/usr/bin/python3",
    }


def document(bed: Bed, nodes: Sequence[str], strangers: Sequence[str] = ()) -> dict[str, Any]:
    """An inventory with `nodes` as the fleet, in this order, and `strangers` outside of it."""
    groups = {"axolotl_nodes": nodes, "strangers": strangers}
    children = {
        group: {"hosts": {name: {"ansible_host": bed.hosts[name]} for name in names}}
        for group, names in groups.items()
        if names
    }
    return {"all": {"vars": connection(bed), "children": children}}


def write_inventory(bed: Bed, strangers: int = 0) -> Path:
    """Write inventories/hosts/hosts.yml, in which the last `strangers` hosts are no nodes, and give its folder."""
    names = list(bed.hosts)
    nodes, others = names[: len(names) - strangers], names[len(names) - strangers :]
    text = "---\n# Made by `make hosts`.\n" + yaml.safe_dump(document(bed, nodes, others), sort_keys=False)
    (FOLDER / "hosts.yml").write_text(text)
    return FOLDER
