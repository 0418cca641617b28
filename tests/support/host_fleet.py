# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The small release on real hosts: the controller brings it, and an account of its own owns it there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from support.small_fleet import SmallFleet
from tools.hosts.bed import Bed
from tools.hosts.inventory import document

OF_THIS_MACHINE = {"axolotl_machine", "axolotl_address", "axolotl_uv_cache_dir"}


class HostFleet(SmallFleet):
    """The hosts of a bed that are named are the nodes."""

    def __init__(self, bed: Bed, folder: Path, names: list[str], **settings: Any) -> None:
        super().__init__(folder)
        self.names = names
        self._bed = bed
        wheel = f"uv=={self.settings['axolotl_uv_version']}"
        next(self.links.glob("uv-*.whl")).unlink()  # the hosts need one that works
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(self.links), wheel]
        subprocess.run(download, check=True)
        self.write_hosts(**settings)

    def write_hosts(self, **settings: Any) -> None:
        """Write the inventory anew, with further settings."""
        common = {
            name: value
            for name, value in self.settings.items()
            if name.startswith("axolotl_") and name not in OF_THIS_MACHINE
        }
        inventory = document(self._bed, self.names)
        inventory["all"]["vars"].update(
            common,
            axolotl_user="train",
            axolotl_delivery="push",
            axolotl_python_platform="x86_64-manylinux_2_28",
        )
        inventory["all"]["vars"].update(settings)
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(inventory))
