# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepares the inventories of this machine: Axolotl's repository, the tiny model, and settings that depend on it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.uv_environment import (
    parse_pip_config_list,
    uv_environment,
)

PROJECT = Path(__file__).resolve().parent.parent
LOCAL = PROJECT / ".demo"
INVENTORY = PROJECT / "inventories" / "local"
TORCH = "torch==2.13.0"


def uv_settings() -> dict[str, str]:
    """The environment for uv: what pip is configured with here, unless uv has a configuration of its own."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    ).stdout
    return {**uv_environment(parse_pip_config_list(listing)), **os.environ}


def torch_backend() -> str:
    """Where the CPU build of torch comes from: a wheelhouse that pip is configured with, else PyTorch's own index."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "wanted.in"
        wanted.write_text(f"{TORCH}\n")
        command = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "--quiet", "--no-deps", "--no-index"]
        found = subprocess.run([*command, str(wanted)], check=False, env=uv_settings(), capture_output=True)
    return "" if found.returncode == 0 else "cpu"


def prepare(local: Path = LOCAL) -> None:
    """Make everything under `local` that is not there yet, and the inventories' machine.yml."""
    for maker, target in (("axolotl_demo_source.py", "axolotl.git"), ("tiny_fixture.py", "fixture")):
        subprocess.run([sys.executable, str(PROJECT / "tools" / maker), str(local / target)], check=True)
    settings = {
        "gpufleet_local": str(local),
        "axolotl_python_version": f"{sys.version_info.major}.{sys.version_info.minor}",
        "axolotl_python_platform": f"{platform.machine()}-manylinux_2_28",
        "axolotl_torch_backend": torch_backend(),
    }
    text = "---\n# Made by tools/local_nodes.py for this machine.\n"
    text += "".join(f"{name}: {json.dumps(value)}\n" for name, value in settings.items())
    for inventory in ("local", "hosts"):
        machine = PROJECT / "inventories" / inventory / "group_vars" / "axolotl_nodes" / "machine.yml"
        part = machine.with_suffix(".part")  # a verb that runs beside this reads the one or the other
        part.write_text(text)
        part.replace(machine)


if __name__ == "__main__":
    prepare()
