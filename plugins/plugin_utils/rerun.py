# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run is run again from its record: what defines it comes from there, where it runs from the inventory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .findings import Finding, names

DEFINING = (
    "axolotl_accelerator",
    "axolotl_commit",
    "axolotl_config",
    "axolotl_environment",
    "axolotl_expected_tokens",
    "axolotl_extras",
    "axolotl_launcher",
    "axolotl_max_restarts",
    "axolotl_nproc_per_node",
    "axolotl_overrides",
    "axolotl_python_platform",
    "axolotl_python_version",
    "axolotl_rendezvous",
    "axolotl_rendezvous_timeout",
    "axolotl_repository",
    "axolotl_requirements",
    "axolotl_torch_backend",
    "axolotl_training_files",
    "training_files_preprocess",
)
"""Settings that say what is trained, with what and how; the others say where, and how it is watched."""

SETTINGS = "settings"
"""Of a plan: what the inventory said of these."""


class NoRecord(ValueError):
    """What is there is no record of a run that can be run again; the message says why."""


def defining(variables: Mapping[str, Any]) -> dict[str, Any]:
    """What a node's inventory variables say of the run; a setting that they leave to its default is left out."""
    return {name: variables[name] for name in DEFINING if variables.get(name) is not None}


def variables(known: Mapping[str, Any], record: Mapping[str, Any], config: str) -> dict[str, Any]:
    """A node's inventory variables, with those that define the run as they were recorded.

    Args:
        known: the node's own.
        record: the plan of the run that is run again.
        config: path of the config as it was recorded.

    Raises:
        NoRecord: it does not say.
    """
    recorded = record.get(SETTINGS)
    if not isinstance(recorded, Mapping):
        raise NoRecord("it does not say what defined the run: an older version wrote it")
    return {
        **{name: value for name, value in known.items() if name not in DEFINING},
        **recorded,
        "axolotl_config": config,
    }


def differences(record: Mapping[str, Any], plan: Mapping[str, Any]) -> Iterator[Finding]:
    """What keeps a plan from being that of the recorded run."""
    run_id = record["run_id"]
    for name, remedy in (
        ("lock_sha256", "put the lock back that lies beside its plan.json, into axolotl_lock_dir"),
        ("release_id", "run the version of this collection that launched it"),
    ):
        if record.get(name) != plan[name]:
            yield _differs(f"{name} {record.get(name)}, as in run {run_id}", f"{name} {plan[name]}", remedy)
    if record["config"]["sha256"] != plan["config"]["sha256"]:
        expected = f"the config with sha256 {record['config']['sha256']}, as in run {run_id}"
        remedy = "bring the recorded config back: its copy lies beside plan.json"
        yield _differs(expected, f"sha256 {plan['config']['sha256']}", remedy)
    ranks, now = ({node: part["rank"] for node, part in side["nodes"].items()} for side in (record, plan))
    if ranks != now:
        remedy = "launch with an inventory that has these nodes, in this order"
        yield _differs(f"{_order(ranks)}, as in run {run_id}", _order(now), remedy)
    lacking = sorted(set(record.get("secrets", [])) - set(plan["secrets"]))
    if lacking:
        remedy = "set them in axolotl_secrets: a record keeps only their names"
        yield _differs(
            f"the secrets of run {run_id}: {', '.join(record['secrets'])}", f"without {', '.join(lacking)}", remedy
        )


def _differs(expected: str, found: str, remedy: str) -> Finding:
    return Finding("rerun_differs", (), expected, found, remedy)


def _order(ranks: Mapping[str, int]) -> str:
    return f"nodes {names(sorted(ranks, key=ranks.__getitem__))}"
