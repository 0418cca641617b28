# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a launcher has to start on one node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Job(NamedTuple):
    """One node's part of a run.

    Attributes:
        release: absolute path of the release.
        config: absolute path of the Axolotl YAML on the node.
        run: absolute path of the run's folder on the node.
        overrides: config keys and values of this launch.
        run_id: the run's name, by which its nodes find each other.
        address: where the others reach the node.
        nnodes: number of nodes.
        node_rank: the node's, from 0.
        nproc_per_node: trainer processes of each node.
        head_address: where the others reach the head.
        master_port: port of the rendezvous on the head.
        rendezvous: static or c10d.
        rendezvous_timeout: seconds for the launchers to meet by c10d.
        max_restarts: how often torchrun starts all workers anew when one fails.
    """

    release: str
    config: str
    run: str
    overrides: Mapping[str, Any]
    run_id: str
    address: str
    nnodes: int
    node_rank: int
    nproc_per_node: int
    head_address: str
    master_port: int
    rendezvous: str = "static"
    rendezvous_timeout: int = 600
    max_restarts: int = 0
