# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the config itself: what Axolotl would refuse, what it would drop, and what needs other storage.

A config is somebody's text: a value of another kind than Axolotl takes counts as one that is not there.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.manifest import one_line

from . import training_config
from .findings import WARNING, Finding, names, some

Plan = Mapping[str, Any]
Fingerprints = Mapping[str, Mapping[str, Any]]
Rule = Callable[[Plan, Fingerprints], Iterator[Finding]]

RENAMED: Mapping[str, str] = {
    "deepspeed_config": "deepspeed",
    "lora_rank": "lora_r",
    "lr": "learning_rate",
    "lr_scheduler_type": "lr_scheduler",
    "max_length": "sequence_len",
    "max_seq_length": "sequence_len",
    "model_name_or_path": "base_model",
    "num_train_epochs": "num_epochs",
    "optim": "optimizer",
    "per_device_eval_batch_size": "eval_batch_size",
    "per_device_train_batch_size": "micro_batch_size",
    "per_gpu_train_batch_size": "micro_batch_size",
    "report_to": "use_wandb",
    "run_name": "wandb_name",
    "target_modules": "lora_target_modules",
    "train_batch_size": "micro_batch_size",
}
"""Names of transformers (TrainingArguments), TRL, PEFT and DeepSpeed, to Axolotl's for the same."""
NOTHING: Mapping[str, Any] = {"keys": None, "refused": [], "foreign_plugins": []}
"""What an Axolotl says that was not asked."""
NEAR = 0.75
"""Likeness from which a known key is taken to be the one that was meant (difflib: 1 is the same)."""
MOST_LOOKED_UP = 20
"""Unknown keys for which a near one is looked for; a real config has one or two."""


class Unknown(NamedTuple):
    """A key that Axolotl would drop; `meant` is the known one that it may be instead, empty where none is near."""

    path: str
    meant: str


def schema(plan: Plan, fingerprints: Fingerprints) -> Mapping[str, Any]:
    """What the head's Axolotl says; nothing where it was asked about another config."""
    head = fingerprints.get(plan["head"])
    return head["schema"] if head and head["config"]["sha256"] == plan["config"]["sha256"] else NOTHING


def refusals(plan: Plan, fingerprints: Fingerprints) -> list[str]:
    """What Axolotl refuses, each as a sentence."""
    sentences = [
        (one_line(key, 80), one_line(message).removeprefix("Value error, "))
        for key, message in schema(plan, fingerprints)["refused"]
    ]
    return [f"{key}: {message}" if key else message for key, message in sentences]


def _refused(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    found = refusals(plan, fingerprints)
    if found:
        remedy = "correct the config on the controller, or axolotl_overrides, and run provision"
        yield Finding("config_refused", (), "a config that the release's Axolotl takes", some(found), remedy)


def _unknown(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    found = list(_unknown_keys(plan, fingerprints))
    expected = "keys that the release's Axolotl knows; it drops others without a word"
    meant = [f"{item.path} (did you mean {item.meant}?)" for item in found if item.meant]
    others = [item.path for item in found if not item.meant]
    if meant:
        remedy = "correct the keys in the config on the controller, and run provision"
        yield Finding("config_key_unknown", (), expected, some(meant), remedy)
    if others:
        remedy = "take them out, or correct them, in the config on the controller, and run provision"
        yield Finding("config_key_unknown", (), expected, some(others), remedy, WARNING)


def _unknown_keys(plan: Plan, fingerprints: Fingerprints) -> Iterator[Unknown]:
    said = schema(plan, fingerprints)
    known = {place: set(keys) for place, keys in (said["keys"] or {}).items()}
    if not known.get(""):
        return
    if said["foreign_plugins"]:  # whose keys stand beside Axolotl's
        known[""] |= set(training_config.of(plan))
    refused = _unknown_options(plan, fingerprints)
    looked_up = 0
    for place, path in _dropped(training_config.of(plan), known, "", ""):
        option = path.replace("_", "-")
        if option in refused or f"no-{option}" in refused:  # override_unknown says it
            continue
        looked_up += 1
        yield Unknown(one_line(path, 120), _meant(place, path, known) if looked_up <= MOST_LOOKED_UP else "")


def _unknown_options(plan: Plan, fingerprints: Fingerprints) -> set[str]:
    head = fingerprints.get(plan["head"])
    return {option.lstrip("-") for option in head["release"]["unknown_options"]} if head else set()


def _dropped(
    values: Mapping[str, Any], known: Mapping[str, set[str]], place: str, path: str
) -> Iterator[tuple[str, str]]:
    """Place in the schema and path of each key that is not known there."""
    for key, value in values.items():
        where = f"{path}.{key}" if path else key
        if key not in known[place] and not (
            place == "fsdp_config" and key.removeprefix(training_config.FSDP_PREFIX) in known[place]
        ):
            yield place, where
            continue
        below = f"{place}.{key}" if place else key
        if below in known:
            for position, item in enumerate(value if isinstance(value, list) else [value]):
                if isinstance(item, Mapping):
                    number = f"[{position}]" if isinstance(value, list) else ""
                    yield from _dropped(item, known, below, where + number)


def _meant(place: str, path: str, known: Mapping[str, set[str]]) -> str:
    """The known key that is like the unknown one: another trainer's name for it, its name elsewhere, or a near one."""
    key = path.rpartition(".")[2][:80]
    bare = key.removeprefix(training_config.FSDP_PREFIX) if place == "fsdp_config" else key
    if RENAMED.get(bare) in known[""]:
        return RENAMED[bare]
    elsewhere = [other for other in ("", "fsdp_config") if other != place and bare in known.get(other, ())]
    if elsewhere:
        return f"{elsewhere[0]}.{bare}" if elsewhere[0] else f"{bare} at the top"
    near = difflib.get_close_matches(bare, sorted(known[place]), 1, NEAR)
    return f"{place}.{near[0]}" if near and place else "".join(near)


def _deepspeed(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    """Axolotl refuses it beside the old key fsdp alone."""
    values = training_config.of(plan)
    both = [key for key in ("fsdp_config", "fsdp") if values.get(key)]
    if values.get("deepspeed") and both and not any("deepspeed" in said for said in refusals(plan, fingerprints)):
        remedy = "take one of them out of the config"
        expected = "one way to shard the model, DeepSpeed or FSDP"
        yield Finding("deepspeed_with_fsdp", (), expected, f"deepspeed and {' and '.join(both)}", remedy)


def _checkpoints(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    reasons = list(_spread(plan))
    folders = {node: str(part["paths"]["output_dir"]) for node, part in plan["nodes"].items()}
    inside = [node for node, folder in folders.items() if _is_below(folder, str(plan["nodes"][node]["root"]))]
    if len(folders) < 2 or not reasons or (plan["storage"] == "shared" and len(inside) == len(folders)):
        return
    place = one_line(folders[plan["head"]]) or "Axolotl's own"
    expected = "an output_dir that all nodes share"
    if inside:
        found = f"{some(reasons)}, but output_dir is on each node's own disk: {place}"
        remedy = (
            "declare axolotl_storage shared, if axolotl_root is; or set output_dir to a path on storage that all nodes "
            "mount; or take this out of the config"
        )
        yield Finding("checkpoint_storage", (), expected, found, remedy)
        return
    found = f"{some(reasons)}, and nobody has said whether {place} is shared: it is outside of axolotl_root"
    remedy = "see that all nodes mount it, and accept this finding in parity_exceptions"
    yield Finding("checkpoint_storage", (), expected, found, remedy, WARNING)


def _spread(plan: Plan) -> Iterator[str]:
    """What makes nodes read, or leave behind, parts of one checkpoint."""
    values = training_config.of(plan)
    if plan["launcher"] == "ray" or values.get("use_ray"):
        yield "Ray's workers write to one folder"
    if values.get("auto_resume_from_checkpoints"):
        yield "auto_resume_from_checkpoints reads the checkpoint on every node"
    kinds = training_config.state_dict_types(plan)
    # With FSDP2 a LOCAL_STATE_DICT does not get that far (fsdp_state_dict).
    apart = ("SHARDED_STATE_DICT", "" if training_config.fsdp_version(plan) == "2" else "LOCAL_STATE_DICT")
    parts = [f"{key} {kind}" for key, kind in kinds.items() if kind in apart]
    if parts:
        yield f"each rank writes its own part of the model ({', '.join(parts)})"


def _is_below(path: str, folder: str) -> bool:
    """Whether a folder of the run is in the node's own root; without a path it is in its work folder."""
    return not path or path.startswith(folder.rstrip("/") + "/")


def _accelerate(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    nodes_of: dict[str, list[str]] = {}
    for node, fingerprint in fingerprints.items():
        path = fingerprint["accelerate"]["default_config"]
        if path:
            nodes_of.setdefault(one_line(path), []).append(node)
    # Where nodes have roots of their own, each has another path.
    if nodes_of:
        nodes = [node for group in nodes_of.values() for node in group]
        expected = "no default config of accelerate, which is made for one machine, where the trainers find it"
        remedy = "remove the file, or set HF_HOME in axolotl_environment to another folder"
        yield Finding("accelerate_config", tuple(nodes), expected, names(sorted(nodes_of), 3), remedy, WARNING)


RULES: tuple[Rule, ...] = (_refused, _unknown, _deepspeed, _checkpoints, _accelerate)
