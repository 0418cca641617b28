# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a whole node: all probes at the same time, each for a limited time, and what one can't say the others can."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from typing import Any, Callable

from . import (
    accelerate_config,
    base_model,
    bounded,
    config_file,
    config_schema,
    infiniband_stack,
    prepared_data,
    probe_hardware,
    probe_infiniband,
    probe_libraries,
    probe_limits,
    probe_nccl,
    probe_network,
    probe_room,
    probe_system,
    release_directory,
    run_reader,
    sockets,
    storage,
    training_inputs,
)
from .digest_cache import DigestCache

SECONDS: Mapping[str, float] = {
    "system": 10,
    "gpus": 80,  # nvidia-smi may take 60, systemctl 10
    "libraries": 40,  # the linker may take 30
    "nccl": 10,
    "release": 150,  # three questions to git and one to Python, 30 each; hashing what was touched
    "config": 20,
    "schema": 100,  # Axolotl's schema may take 90
    "base_model": 30,
    "accelerate": 10,
    "room": 20,
    "storage": 20,
    "runs": 20,
    "network": 45,  # three names, 10 each
    "limits": 30,  # systemd may take 20
    "infiniband": 45,  # sysfs may take 20, ofed_info 10
}
"""Seconds that each probe may take before its section says so, more than the commands in it may take together.

They run at the same time, but for nccl, which waits for the version that libraries finds, and the two readings of the
adapters' error counters, which come first and last: a node on which everything hangs is read in 20 + 150 + 10 + 20 s,
or in the time that its data is given. A healthy one takes as long as the slowest of them, nvidia-smi or git, a second
or two.
"""

MARGIN = 20.0
"""Seconds beyond `inputs_timeout`, within which what was read of the data comes back."""

Options = Mapping[str, Any]
Sections = dict[str, Any]


def read(options: Options, keep: bool = True) -> Sections:
    """The node's fingerprint, as the module node_fingerprint documents it.

    Args:
        options: the module's.
        keep: whether digests of large files may be kept for the next time.

    Returns:
        The sections; `seconds`, which names each probe with the time it took; and `errors`, which names the probes
        whose sections are a list or are keyed by something else, so that they can't hold their error themselves.
    """
    errors = probe_infiniband.ErrorWatch()  # what follows takes the time in which a bad link shows
    seconds = {"data": options["inputs_timeout"] + MARGIN, **SECONDS}
    probes = _probes(options, keep)
    outcomes = bounded.side_by_side({name: (seconds[name], probe) for name, probe in probes.items()})
    found: Sections = {"machine": probe_hardware.machine(), "host_python": platform.python_version(), "storage": None}
    for name, outcome in outcomes.items():
        found.update(outcome.value if outcome.error is None else _unread(name, outcome.error, options))
    nccl = found["libraries"]["nccl"] or {}
    outcomes.update(
        bounded.side_by_side(
            {"nccl": (SECONDS["nccl"], lambda: probe_nccl.read(options["environment"], nccl.get("version")))}
        )
    )
    answer = outcomes["nccl"]
    found["nccl"] = answer.value if answer.error is None else {"files": [], "settings": None, "error": answer.error}
    found["infiniband"]["counters"] = errors.close()
    # A list of runs, a set of ports and the data have no place of their own for an error.
    found["errors"] = {name: outcomes[name].error for name in ("runs", "data") if outcomes[name].error}
    found["seconds"] = {name: outcome.seconds for name, outcome in outcomes.items()}
    return found


def _probes(options: Options, keep: bool) -> dict[str, Callable[[], Sections]]:
    """Name to the probe; each gives one section, or two that come of one question."""
    probes: dict[str, Callable[[], Sections]] = {
        "system": lambda: {"system": probe_system.read()},
        "gpus": lambda: probe_hardware.devices(options["accelerator"]),
        "libraries": lambda: {"libraries": _libraries(options)},
        "release": lambda: {"release": _release(options)},
        "config": lambda: {"config": config_file.read(options["config"], options["config_sha256"])},
        "schema": lambda: {"schema": _schema(options)},
        "base_model": lambda: {"base_model": _base_model(options)},
        "accelerate": lambda: {"accelerate": accelerate_config.read(options["environment"])},
        "data": lambda: _data(options, keep),
        "room": lambda: {"room": probe_room.read(options["output_dir"], options["root"])},
        "runs": lambda: _runs(options),
        "network": lambda: {"network": _network(options)},
        "limits": lambda: {"limits": probe_limits.read(options["supervisor"])},
        "infiniband": lambda: {"infiniband": {**probe_infiniband.read(), "stack": infiniband_stack.stack()}},
    }
    if options["marker"]:
        probes["storage"] = lambda: {"storage": {**storage.look(options["root"], options["marker"]), "error": None}}
    return probes


def _libraries(options: Options) -> dict[str, Any]:
    if options["accelerator"] == "cpu":
        return {**probe_libraries.NOTHING, "error": None}
    return probe_libraries.read(options["release"], options["environment"])


def _release(options: Options) -> dict[str, Any]:
    release = release_directory.read_release(options["release"])
    known = release.pop("train_options")  # hundreds; empty for commits that can't be asked
    release["unknown_options"] = [name for name in options["train_options"] if known and name not in known]
    return {**release, "error": None}


def _schema(options: Options) -> dict[str, Any]:
    """Nothing where nothing is asked: one node of a fleet answers for all that have the same release."""
    asked = options["schema"]
    if not asked:
        return {**config_schema.NOTHING, "error": None}
    return config_schema.read(
        options["release"],
        options["config"],
        asked["overrides"],
        int(asked["world_size"]),
        options["accelerator"],
        options["environment"],
    )


def _base_model(options: Options) -> dict[str, Any]:
    if not options["base_model"]:
        return {**base_model.NOTHING, "error": None}
    return base_model.read(options["base_model"], options["release"])


def _data(options: Options, keep: bool) -> Sections:
    """What the training reads, and what is prepared from it, within `inputs_timeout` seconds."""
    deadline = time.monotonic() + options["inputs_timeout"]
    folder, cache = options["digest_cache"], None
    if folder:
        cache = DigestCache(folder, look_up=not options["rehash"], write=keep)
    inputs = training_inputs.read(options["inputs"], options["inputs_timeout"], cache)
    left = max(1.0, deadline - time.monotonic())
    return {
        "inputs": inputs,
        "prepared": prepared_data.read(options["prepared"], left, cache) if options["prepared"] else None,
    }


def _runs(options: Options) -> Sections:
    active = {run.run_id: run_reader.launched_by(run) for run in run_reader.active_runs(options["runs"])}
    ports = {str(port): _port_state(port, bool(active)) for port in options["ports"]}
    return {"active_runs": active, "ports": ports}


def _port_state(port: int, run_is_active: bool) -> dict[str, Any]:
    """Whether a port is free, and who holds it; a run that is just starting must not find it bound by us."""
    holder = sockets.port_holder(port)
    free = holder is None and (run_is_active or sockets.port_is_free(port))
    return {"free": free, "holder": holder._asdict() if holder else None}


def _network(options: Options) -> dict[str, Any]:
    found = probe_network.read(options["address"], options["head_address"], options["login_address"])
    return {**found, "error": None}


def _unread(name: str, error: str, options: Options) -> Sections:
    """The sections of a probe that did not answer: their shape, nothing in them, and the error."""
    if name == "runs":
        return {"active_runs": {}, "ports": {}}
    if name == "data":
        return {"inputs": {}, "prepared": None}
    if name == "gpus":
        devices = {"kind": options["accelerator"], "count": 0, "error": error}
        return {"devices": devices, "gpus": {**probe_hardware.NO_GPUS, "error": error}}
    unresolved: dict[str, Any] = {"resolved": [], "error": None, "interface": None}
    sections: dict[str, dict[str, Any]] = {
        "system": dict.fromkeys(("kernel", "os", "glibc", "architecture")),
        "libraries": dict(probe_libraries.NOTHING),
        # It is there and does not answer: nobody can say that it is complete.
        "release": {
            **release_directory.nothing(options["release"], exists=True),
            "unknown_options": [],
            "problems": [f"{options['release']}: {error}"],
        },
        "config": {"path": options["config"], "sha256": None, "size": 0, "content": None, "elsewhere": None},
        "schema": dict(config_schema.NOTHING),
        "base_model": dict(base_model.NOTHING),
        "accelerate": {"default_config": None},
        "room": {
            **dict.fromkeys(("output_dir", "root", "shm", "memory")),
            "neighbours": {"ipv4": None, "ipv6": None},
        },
        "storage": {
            **{"root": options["root"], "exists": True, "seen": False, "writable": False},
            **{"owner": None, "uid": None, "file_system": ""},
        },
        "network": {
            **{"interfaces": {}, "left_out": 0, "default_route": None, "login": None},
            "address": {"name": options["address"], **unresolved},
            "head": {"name": options["head_address"], **unresolved},
        },
        "limits": {
            "context": "process" if options["supervisor"] == "process" else "systemd",
            **dict.fromkeys(probe_limits.NAMES),
        },
        "infiniband": {**probe_infiniband.NOTHING, "stack": {"name": None, "version": None, "error": None}},
    }
    section = {**sections[name], "error": error}
    section.pop("train_options", None)
    return {name: section}
