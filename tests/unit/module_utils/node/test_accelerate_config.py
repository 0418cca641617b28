# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A default config of accelerate is looked for where accelerate would, in the trainers' environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import accelerate_config


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({}, ".cache/huggingface"),
        ({"HF_HOME": "{home}/hub"}, "hub"),
        ({"HF_HOME": "~/hub"}, "hub"),
        ({"XDG_CACHE_HOME": "{home}/x"}, "x/huggingface"),
    ],
)
def test_where_it_is_looked_for(tmp_path: Path, variables: dict[str, str], folder: str) -> None:
    environment = {"HOME": str(tmp_path), **{name: value.format(home=tmp_path) for name, value in variables.items()}}
    assert accelerate_config.read(environment) == {"default_config": None, "error": None}
    path = tmp_path / folder / "accelerate" / "default_config.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("num_machines: 1\n")
    assert accelerate_config.read(environment) == {"default_config": str(path), "error": None}
