# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where everything lies under a node's ``axolotl_root``: the one place that knows the layout."""

from __future__ import annotations

import os
from typing import NamedTuple


class NodePaths(NamedTuple):
    """Absolute paths on one node."""

    root: str
    tools: str
    releases: str
    current: str
    work: str
    runs: str
    digests: str

    @classmethod
    def under(cls, root: str, node: str = "") -> NodePaths:
        """Lay the node's folders out under `root` (an absolute path).

        With `node`, other nodes have the same root: what a run leaves there, and what the node remembers of its
        files, lies in a folder of the node's name.
        """
        return cls(
            root=root,
            tools=os.path.join(root, "tools"),
            releases=os.path.join(root, "releases"),
            current=os.path.join(root, "current"),
            work=os.path.join(root, "work"),
            runs=os.path.join(root, "runs", node) if node else os.path.join(root, "runs"),
            digests=os.path.join(root, "cache", "digests", node) if node else os.path.join(root, "cache", "digests"),
        )

    def release(self, release_id: str) -> str:
        """The folder of one release: code in `source/`, environment in `venv/`."""
        return os.path.join(self.releases, release_id)

    def run(self, run_id: str) -> str:
        """The folder of one run on this node."""
        return os.path.join(self.runs, run_id)
