# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command of one node for accelerate, and the configuration file that it is given: never the account's own.

The nodes' files differ in machine_rank alone. How to train is not in them: Axolotl sets FSDP, DeepSpeed and precision
in each trainer's environment itself (prepare_optim_env in src/axolotl/utils/trainer.py), but only what its config turns
on. With `distributed_type: FSDP` accelerate would turn on what the config leaves off, cpu_ram_efficient_loading among
it, and nothing would turn it off again; so the type is MULTI_GPU for all of them. MULTI_CPU is no choice: with it each
node trains alone and exits with 0.
"""

from __future__ import annotations

import json

from .launcher_job import Job
from .override_options import override_options

FILE = "accelerate.json"


def command(job: Job) -> list[str]:
    """``axolotl train CONFIG --launcher accelerate [overrides] -- --config_file FILE``."""
    return [
        f"{job.release}/venv/bin/axolotl",
        "train",
        job.config,
        "--launcher",
        "accelerate",
        *override_options(job.overrides),
        "--",
        "--config_file",
        f"{job.run}/{FILE}",
    ]


def files(job: Job) -> dict[str, str]:
    """The configuration file, as ClusterConfig has it (accelerate/commands/config/config_args.py)."""
    settings = {
        "compute_environment": "LOCAL_MACHINE",
        "debug": False,
        "distributed_type": "MULTI_GPU",
        "machine_rank": job.node_rank,
        "main_process_ip": job.head_address,
        "main_process_port": job.master_port,
        "main_training_function": "main",
        "mixed_precision": "no",
        "num_machines": job.nnodes,
        # Of all nodes together; accelerate divides it, and drops a remainder without a word.
        "num_processes": job.nnodes * job.nproc_per_node,
        "rdzv_backend": "static",
        "same_network": True,
        "use_cpu": False,
    }
    return {FILE: json.dumps(settings, indent=2, sort_keys=True) + "\n"}
