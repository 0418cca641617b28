# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command of one node for torchrun: started by Axolotl's own command line, or directly.

Axolotl executes torchrun in its place and hands it what stands behind ``--`` (src/axolotl/cli/utils/train.py). It adds
a random --rdzv_id of its own where it sees --rdzv_endpoint in that spelling; with dashes throughout it adds nothing.
"""

from __future__ import annotations

from .launcher_job import Job
from .override_options import module_options, override_options


def command(job: Job) -> list[str]:
    """``axolotl train CONFIG --launcher torchrun [overrides] -- [torchrun's options]``."""
    return [
        f"{job.release}/venv/bin/axolotl",
        "train",
        job.config,
        "--launcher",
        "torchrun",
        *override_options(job.overrides),
        "--",
        *options(job),
    ]


def legacy_command(job: Job) -> list[str]:
    """``torchrun [its options] -m axolotl.cli.train CONFIG [overrides]``, which every Axolotl knows."""
    return [
        f"{job.release}/venv/bin/torchrun",
        *options(job),
        "-m",
        "axolotl.cli.train",
        job.config,
        *module_options(job.overrides),
    ]


def options(job: Job) -> list[str]:
    """torchrun's own options (torch/distributed/run.py).

    A static rendezvous alone honours the node's rank; c10d ranks the nodes as they come, so it is given none. Who holds
    the store is said too, since torchrun would else guess it from host names; and each node's address, since all
    trainers meet at that of rank 0, for which torchrun would take the host's own name: 127.0.1.1 on Debian.
    """
    nodes, processes = ["--nnodes", str(job.nnodes)], ["--nproc-per-node", str(job.nproc_per_node)]
    if job.rendezvous == "static":
        where = ["--master-addr", job.head_address, "--master-port", str(job.master_port)]
        return [*nodes, "--node-rank", str(job.node_rank), *processes, *where]
    seconds = job.rendezvous_timeout
    host = f"[{job.head_address}]" if ":" in job.head_address else job.head_address
    return [
        *nodes,
        *processes,
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        f"{host}:{job.master_port}",
        "--rdzv-id",
        job.run_id,
        "--rdzv-conf",
        f"is_host={int(job.node_rank == 0)},join_timeout={seconds},read_timeout={seconds}",
        "--local-addr",
        job.address,
        "--max-restarts",
        str(job.max_restarts),
    ]
