# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a bed's inventory: how Ansible reaches each host, with its key checked and as an account without rights."""

from __future__ import annotations

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
        "ansible_python_interpreter": "/usr/bin/python3",
    }


def document(bed: Bed, nodes: list[str], strangers: list[str] | None = None) -> dict[str, Any]:
    """An inventory with `nodes` as the fleet, in this order, and `strangers` outside of it."""
    groups = {"axolotl_nodes": nodes, "strangers": strangers or []}
    children = {
        group: {"hosts": {name: {"ansible_host": bed.hosts[name]} for name in names}}
        for group, names in groups.items()
        if names
    }
    return {"all": {"vars": connection(bed), "children": children}}


def write_inventory(bed: Bed) -> Path:
    """Write inventories/hosts/hosts.yml with every host of the bed as a node, and give its folder."""
    text = "---\n# Made by `make hosts`.\n" + yaml.safe_dump(document(bed, list(bed.hosts)), sort_keys=False)
    (FOLDER / "hosts.yml").write_text(text)
    return FOLDER
