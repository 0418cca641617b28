# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Axolotl config as the training will see it: the file, with the overrides of this launch over it.

What stands of it in the plan can be shown: the values of secrets are masked, and it is of a sensible size. It is
somebody's text all the same, so a value of another kind than Axolotl takes counts as none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.masking import MASK, is_secret_name, mask

from .config_difference import DEEPEST, MOST_VALUES, Unreadable

Values = Mapping[str, Any]

FSDP_PREFIX = "fsdp_"
"""Axolotl takes it off the keys of fsdp_config (check_fsdp_config_kwargs_prefix of its schema)."""


def effective(config: Mapping[Any, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the overrides, as JSON has it.

    Args:
        config: as it was read from YAML.
        overrides: as `axolotl_overrides` has them; a mapping, or dots in a name, stand for nested keys.

    Raises:
        Unreadable: it has more values or levels than any config; the message says which.
    """
    merged = _Copy().of(config, DEEPEST)
    for path, value in flattened(overrides).items():
        *above, key = path.split(".")
        part = merged
        for name in above:
            if not isinstance(part.get(name), dict):
                part[name] = {}
            part = part[name]
        part[key] = _Copy().of(value, DEEPEST, key)
    return dict(merged)


def flattened(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key to value, in the spelling of the config."""
    return dict(_flattened(overrides, ""))


def of(plan: Values) -> Values:
    """The config that a plan was made with."""
    return section(section(plan, "config"), "values")


def section(values: Values, name: str) -> Values:
    """A part that is a mapping; empty where it is something else."""
    value = values.get(name)
    return value if isinstance(value, Mapping) else {}


def number(value: Any) -> int | None:
    """A whole number above zero, which YAML or an override may hold as text."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    try:
        found = int(value)
    except ValueError:
        return None
    return found if 0 < found < 1 << 63 else None


def fsdp(plan: Values) -> dict[str, Any]:
    """The section fsdp_config, its keys without their old prefix; empty where FSDP is not used."""
    found = section(of(plan), "fsdp_config")
    return {key if key == "fsdp_version" else key.removeprefix(FSDP_PREFIX): value for key, value in found.items()}


def fsdp_version(plan: Values) -> str:
    """The version as text; empty where none is set, which Axolotl takes for 1."""
    inside = section(of(plan), "fsdp_config")
    return str(of(plan).get("fsdp_version") or inside.get("fsdp_version") or inside.get("version") or "")


def state_dict_types(plan: Values) -> dict[str, str]:
    """How checkpoints (state_dict_type) and the final model (final_state_dict_type) are saved; empty without FSDP.

    The defaults are those of accelerate (FullyShardedDataParallelPlugin.set_state_dict_type) and of Axolotl
    (save_trained_model in train.py).
    """
    found = fsdp(plan)
    if not found:
        return {}
    default = "SHARDED_STATE_DICT" if fsdp_version(plan) == "2" else "FULL_STATE_DICT"
    checkpoints = str(found.get("state_dict_type") or default)
    return {
        "state_dict_type": checkpoints,
        "final_state_dict_type": str(found.get("final_state_dict_type") or checkpoints),
    }


def is_mixed_precision(plan: Values) -> bool:
    """Whether parameters are kept in full and computed with in half precision; `bf16: full` is something else."""
    return any(of(plan).get(key) is True or of(plan).get(key) == "auto" for key in ("bf16", "fp16"))


def samples_per_step(plan: Values) -> dict[str, int]:
    """The factors of the effective batch (normalize_config in utils/config/__init__.py); empty where one is unclear."""
    values = of(plan)
    if values.get("batch_size"):
        return {}
    known = {
        key: number(values[key] if values.get(key) is not None else 1)
        for key in ("micro_batch_size", "gradient_accumulation_steps", "tensor_parallel_size", "context_parallel_size")
    }
    micro, accumulated, tensor, context = known.values()
    if not (micro and accumulated and tensor and context):
        return {}
    return {
        "micro_batch_size": micro,
        "gradient_accumulation_steps": accumulated,
        "world_size": plan["world_size"] // tensor // context,
    }


def _flattened(overrides: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for key, value in overrides.items():
        name = above + str(key).replace("-", "_")
        if isinstance(value, Mapping) and value:
            yield from _flattened(value, f"{name}.")
        else:
            yield name, value


class _Copy:
    """Copies what YAML can hold into what JSON can, and counts: an alias may stand for billions, or contain itself."""

    def __init__(self) -> None:
        self._left = MOST_VALUES

    def of(self, value: Any, levels: int, key: str = "") -> Any:
        if key and value is not None and is_secret_name(key):
            return MASK
        if isinstance(value, (Mapping, list, tuple, set)):
            if not levels:
                raise Unreadable(f"more than {DEEPEST} levels")
            if isinstance(value, Mapping):
                return {str(name): self.of(item, levels - 1, str(name)) for name, item in value.items()}
            return [self.of(item, levels - 1) for item in value]
        self._left -= 1
        if self._left < 0:
            raise Unreadable(f"more than {MOST_VALUES} values")
        if isinstance(value, int):
            return value if abs(value) < 1 << 64 else f"a number of {value.bit_length()} bits"
        if value is None or (isinstance(value, float) and math.isfinite(value)):
            return value
        return mask(str(value), ())
