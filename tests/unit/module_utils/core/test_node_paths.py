# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layout under a node's root."""

from __future__ import annotations

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.node_paths import NodePaths


def test_everything_lies_under_the_root() -> None:
    paths = NodePaths.under("/opt/axolotl")
    assert paths._asdict() == {
        "root": "/opt/axolotl",
        "tools": "/opt/axolotl/tools",
        "releases": "/opt/axolotl/releases",
        "current": "/opt/axolotl/current",
        "work": "/opt/axolotl/work",
        "runs": "/opt/axolotl/runs",
        "digests": "/opt/axolotl/cache/digests",
    }
    own = {"runs": "/opt/axolotl/runs/gpu-a", "digests": "/opt/axolotl/cache/digests/gpu-a"}
    assert NodePaths.under("/opt/axolotl", "gpu-a") == paths._replace(**own)
    assert paths.release("abc-def") == "/opt/axolotl/releases/abc-def"
    assert paths.run("20260101T000000Z-aa") == "/opt/axolotl/runs/20260101T000000Z-aa"


def test_what_runs_leave_is_each_nodes_own_where_the_root_is_not() -> None:
    paths = NodePaths.under("/mnt/shared", "node1")
    assert paths.run("20260101T000000Z-aa") == "/mnt/shared/runs/node1/20260101T000000Z-aa"
    assert paths._replace(runs="", digests="") == NodePaths.under("/mnt/shared")._replace(runs="", digests="")
