# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Config keys that a launch overrides, as arguments: of Axolotl's command line, and of the module behind it.

Axolotl's own options stand before ``--``; what stands behind it, and what Axolotl does not know, it hands to the
launcher. The launcher's options are torchrun's (torch/distributed/run.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# What torchrun understands: as an override such a key would be taken for the launcher's.
TORCHRUN_OPTIONS = frozenset(
    [
        "nnodes",
        "nproc-per-node",
        "rdzv-backend",
        "rdzv-endpoint",
        "rdzv-id",
        "rdzv-conf",
        "standalone",
        "max-restarts",
        "monitor-interval",
        "start-method",
        "role",
        "module",
        "no-python",
        "run-path",
        "log-dir",
        "redirects",
        "tee",
        "local-ranks-filter",
        "node-rank",
        "master-addr",
        "master-port",
        "local-addr",
        "logs-specs",
        "numa-binding",
    ]
)
# Axolotl's own options of the train command that are no config keys: they are the launch plan's to set.
AXOLOTL_OPTIONS = frozenset({"launcher", "cloud", "sweep", "config", "num-processes", "main-process-port", "use-ray"})


class InvalidOverride(ValueError):
    """An override that would not arrive as meant; the message says why."""


def override_options(overrides: Mapping[str, Any]) -> list[str]:
    """Overrides as options of ``axolotl train``: ``max_steps: 3`` is ``--max-steps=3``.

    Nested keys are joined by dots; true and false are ``--key`` and ``--no-key``. The value is one argument
    whatever is in it, since no shell is involved.

    Raises:
        InvalidOverride: a key that is the launcher's, or a value that has no form on the command line.
    """
    return [_option(key, value) for key, value in _ordered(overrides)]


def module_options(overrides: Mapping[str, Any]) -> list[str]:
    """The same as arguments of ``python -m axolotl.cli.train``, as ``axolotl train`` itself would start that.

    There ``fsdp_config.offload_params: true`` is ``--fsdp-config--offload-params=True`` (build_command in
    src/axolotl/cli/utils/train.py).

    Raises:
        InvalidOverride: as override_options.
    """
    override_options(overrides)
    return [f"--{key.replace('.', '--')}={value}" for key, value in _ordered(overrides)]


def _ordered(overrides: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """By name, so that a record, in which the order is lost, gives the same command."""
    return sorted(_flatten(overrides), key=lambda option: option[0])


def _flatten(overrides: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in overrides.items():
        name = prefix + str(key).replace("_", "-")
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{name}.")
        else:
            yield name, value


def _option(key: str, value: Any) -> str:
    if key in TORCHRUN_OPTIONS or key in AXOLOTL_OPTIONS:
        raise InvalidOverride(f"{key} is an option of the launcher, which the launch plan sets; it is no config key")
    if not all(part.replace("-", "").isalnum() for part in key.split(".")):
        raise InvalidOverride(f"{key!r} is no config key")
    if isinstance(value, bool):
        return f"--{key}" if value else f"--no-{key}"
    if value is None or isinstance(value, (list, tuple, Mapping)) or "\0" in str(value):
        raise InvalidOverride(f"{key} is {value!r}, which has no form on Axolotl's command line: set it in the config")
    return f"--{key}={value}"
