# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives an editable install the folders that Ansible expects around a collection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CollectionLink(BuildHookInterface):  # type: ignore[type-arg]
    """Links .venv-path/ansible_collections/gpufleet/axolotl to the checkout.

    The link is made here and not committed: ansible-test refuses a collection that holds a link to a folder.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        if version != "editable":
            return
        link = Path(self.root, ".venv-path", "ansible_collections", "gpufleet", "axolotl")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(Path("..", "..", ".."), target_is_directory=True)
