# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What FSDP is told about a model, against the model and the memory of the nodes.

What Axolotl's own schema refuses, it says itself (config_refused), and then no rule here says it again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.manifest import one_line

from . import training_config
from .findings import WARNING, Finding, amount, examples, some
from .rules_config import refusals
from .training_config import fsdp, fsdp_version, is_mixed_precision

Plan = Mapping[str, Any]
Fingerprints = Mapping[str, Mapping[str, Any]]
Rule = Callable[[Plan, Fingerprints], Iterator[Finding]]

BITSANDBYTES_8BIT = re.compile(r"(?:paged_)?(?:adamw|ademamix|lion)_8bit|(?:adamw|rmsprop)_bnb_8bit")
"""8-bit optimisers of bitsandbytes, whose kernels can't handle FSDP2's distributed tensors: Axolotl refuses two of them
(check_fsdp2_w_8bit_optimizer), bitsandbytes' issue 1633 and pytorch/ao's issue 1213 tell of the others."""
IN_FULL = 4
"""Bytes of a parameter that is trained in mixed precision: accelerate keeps it in float32 (fsdp_utils.py)."""
HALF = 2


class Model(NamedTuple):
    """The base model as the head has it.

    Attributes:
        layers: the classes that transformers keeps whole.
        classes: all that its architecture is made of.
        size: bytes of the files with its weights, 0 where they are not known.
        parameters: how many, 0 where that is not known.
    """

    layers: list[str]
    classes: list[str]
    size: int
    parameters: int


def base_model(plan: Plan, fingerprints: Fingerprints) -> Model:
    """What the head said of the model; empty where it could not be read."""
    if plan["head"] not in fingerprints:
        return Model([], [], 0, 0)
    said = fingerprints[plan["head"]]["base_model"]
    layers, classes = ([one_line(name, 80) for name in said[kind]] for kind in ("layers", "classes"))
    return Model(layers, classes, said["bytes"] or 0, said["parameters"] or 0)


def _version(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    if fsdp(plan) and not fsdp_version(plan):
        remedy = "set fsdp_version: 2 in the config, or 1 where that is meant"
        expected = "an fsdp_version beside fsdp_config"
        found = "none, which means the old FSDP1, where some keys of fsdp_config mean something else"
        yield Finding("fsdp_version", (), expected, found, remedy, WARNING)


def _is_2(plan: Plan) -> bool:
    return bool(fsdp(plan)) and fsdp_version(plan) == "2"


def _says(plan: Plan, fingerprints: Fingerprints, word: str) -> bool:
    """Whether Axolotl refuses the config for something with this word in it."""
    return any(word in said for said in refusals(plan, fingerprints))


def _local_state(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    keys = [key for key in ("state_dict_type", "final_state_dict_type") if fsdp(plan).get(key) == "LOCAL_STATE_DICT"]
    if keys and _is_2(plan) and not _says(plan, fingerprints, "LOCAL_STATE_DICT"):
        remedy = "use FULL_STATE_DICT, or SHARDED_STATE_DICT with an output_dir that all nodes share"
        expected = "FULL_STATE_DICT or SHARDED_STATE_DICT with fsdp_version 2"
        found = f"LOCAL_STATE_DICT in {' and '.join(keys)}, which Axolotl takes and accelerate refuses"
        yield Finding("fsdp_state_dict", (), expected, found, remedy)


def _optimizer(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    optimizer = str(training_config.of(plan).get("optimizer"))
    if not _is_2(plan) or not BITSANDBYTES_8BIT.fullmatch(optimizer):
        return
    if not _says(plan, fingerprints, optimizer):
        remedy = "set optimizer: adamw_torch_8bit or adamw_torch_fused in the config"
        expected = "an optimiser that knows FSDP2's distributed tensors"
        yield Finding("fsdp_optimizer", (), expected, f"optimizer: {optimizer}, of bitsandbytes", remedy)


def _wrap(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    said = fsdp(plan).get("transformer_layer_cls_to_wrap")
    model = base_model(plan, fingerprints)
    wanted = [name.strip() for name in said.split(",")] if isinstance(said, str) else []
    if not model.layers or not wanted:
        return
    absent = [name for name in wanted if name not in model.classes and name not in model.layers]
    smaller = [name for name in wanted if name not in model.layers and name not in absent]
    expected = f"layers of the model in transformer_layer_cls_to_wrap: {some(model.layers)}"
    one = model.layers[0] if len(model.layers) == 1 else "one of these, or to several with commas between them"
    remedy = f"set fsdp_config.transformer_layer_cls_to_wrap to {one}"
    if absent:
        found = f"{one_line(', '.join(absent))}, which this model has not: each rank would fail when it has loaded it"
        yield Finding("fsdp_wrap_class", (), expected, found, remedy)
    if smaller:
        found = f"{one_line(', '.join(smaller))}, which is a part of the model but none of its layers"
        yield Finding("fsdp_wrap_class", (), expected, found, remedy, WARNING)


def _size_wrap(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    found = fsdp(plan)
    if found.get("auto_wrap_policy") != "SIZE_BASED_WRAP" or training_config.number(found.get("min_num_params")):
        return
    if not _says(plan, fingerprints, "min_num_params"):
        remedy = "set fsdp_config.min_num_params, or auto_wrap_policy to TRANSFORMER_BASED_WRAP"
        expected = "min_num_params beside SIZE_BASED_WRAP"
        yield Finding("fsdp_wrap_size", (), expected, "SIZE_BASED_WRAP alone", remedy)


def _full_state(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    """The head, as rank 0, gathers the whole model in its main memory."""
    if "FULL_STATE_DICT" in training_config.state_dict_types(plan).values():
        needs = {plan["head"]: _trained_bytes(plan, base_model(plan, fingerprints))}
        purpose = "for FULL_STATE_DICT, with which rank 0 gathers the whole model"
        remedy = "use SHARDED_STATE_DICT, with an output_dir that all nodes share; or make a larger node the head"
        yield from _memory(needs, fingerprints, purpose, remedy)


def _offload(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    """Each node keeps its share in main memory: parameters, gradients, and what the optimiser remembers of them."""
    if fsdp(plan).get("offload_params") is not True:
        return
    values = training_config.of(plan)
    need = _trained_bytes(plan, base_model(plan, fingerprints))
    kept = "parameters"
    if not values.get("adapter"):
        optimizer = str(values.get("optimizer") or "adamw").lower()
        need *= 4 if "adam" in optimizer and "8bit" not in optimizer else 2  # Adam has two moments of each
        kept = "parameters, their gradients and the optimiser's states"
    count = len(plan["nodes"])
    purpose = f"for offload_params: 1/{count} of all {kept}"
    remedy = "take offload_params out of the config, or use larger nodes, or more of them"
    yield from _memory(dict.fromkeys(fingerprints, need // count), fingerprints, purpose, remedy)


def _trained_bytes(plan: Plan, model: Model) -> int:
    """What all parameters take while they are trained; 0 where the model is not known.

    Those of a base model under an adapter stay as they are stored.
    """
    in_full = model.parameters and is_mixed_precision(plan) and not training_config.of(plan).get("adapter")
    return model.parameters * IN_FULL if in_full else model.size


def _memory(needs: Mapping[str, int], fingerprints: Fingerprints, purpose: str, remedy: str) -> Iterator[Finding]:
    """An error for machines that have too little, a warning for those where something else has it now."""
    known = {node: fingerprints[node] for node in needs if node in fingerprints}
    on_machine: dict[str, int] = {}
    for node, found in known.items():
        machine = found["machine"]["identity"]
        on_machine[machine] = on_machine.get(machine, 0) + needs[node]
    small: dict[str, str] = {}
    full: dict[str, str] = {}
    for node, found in known.items():
        memory, need = found["room"]["memory"], on_machine[found["machine"]["identity"]]
        if memory and need > memory["total_bytes"]:
            small[node] = amount(memory["total_bytes"])
        elif memory and need > memory["available_bytes"]:
            full[node] = f"{amount(memory['available_bytes'])} available of {amount(memory['total_bytes'])}"
    expected = f"{amount(max(on_machine.values(), default=0))} of main memory {purpose}"
    if small:
        yield Finding("fsdp_memory", tuple(small), expected, examples(small), remedy)
    if full:
        remedy = f"see what uses the memory there (ps -e -o rss,args --sort=-rss); or {remedy}"
        yield Finding("fsdp_memory", tuple(full), expected, examples(full), remedy, WARNING)


def unsharded(plan: Plan, fingerprints: Fingerprints) -> str:
    """What `reshard_after_forward: false` costs, as a sentence for the plan; empty where it is not set."""
    if fsdp(plan).get("reshard_after_forward") is not False:
        return ""
    model = base_model(plan, fingerprints)
    size = model.parameters * HALF if model.parameters and is_mixed_precision(plan) else model.size
    cost = f", {amount(size)} instead of 1/{plan['world_size']} of it" if size else ""
    held = "from the forward pass to the end of the backward pass each GPU holds the whole model"
    return f"reshard_after_forward is false: {held}{cost}"


RULES: tuple[Rule, ...] = (_version, _local_state, _optimizer, _wrap, _size_wrap, _full_state, _offload)
