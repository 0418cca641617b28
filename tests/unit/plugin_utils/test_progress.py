# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run is doing, in one line."""

from __future__ import annotations

from typing import Any

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import progress


def node(phase: str, **facts: Any) -> dict[str, Any]:
    return {"phase": phase, "silent_for": 0.5, **facts}


def test_a_training_under_way() -> None:
    watch = {
        "nodes": {
            "node0": node("running", step=12, total_steps=100, loss=5.8125, tokens=568),
            "node1": node("running", step=0, total_steps=0),
        },
        "order": "go",
        "reason": "",
    }
    assert progress.line(watch, 3725.9) == "01:02:05  step 12/100  loss 5.8125  2 of 2 nodes running"
    assert not progress.has_ended(watch)


def test_it_says_who_has_not_joined_yet() -> None:
    watch = {"nodes": {"node0": node("joining"), "node1": node("joining", silent_for=None)}}
    assert progress.line(watch, 0) == "00:00:00  2 of 2 nodes joining  waiting for node1"


def test_it_says_who_is_silent_and_why_it_ends() -> None:
    watch = {
        "nodes": {
            "node0": node("ended"),
            "node1": node("running", silent_for=9.0),
            "node2": node("ended", silent_for=9),
        },
        "reason": "node0: trainer exited with 3",
    }
    assert progress.line(watch, 61) == (
        "00:01:01  2 of 3 nodes ended, 1 of 3 nodes running  nothing heard of node1"
        "  ending: node0: trainer exited with 3"
    )


def test_a_loss_of_zero_is_a_loss() -> None:
    assert "loss 0" in progress.line({"nodes": {"node0": node("running", loss=0.0)}}, 1)


def test_it_has_ended_when_every_part_has() -> None:
    assert progress.has_ended({"nodes": {"node0": node("ended"), "node1": node("ended")}})
    assert not progress.has_ended({"nodes": {"node0": node("ended"), "node1": node("ending")}})
    assert not progress.has_ended({})
    assert not progress.has_ended({"nodes": {}})


def test_before_anything_is_known() -> None:
    assert progress.line({}, 5).startswith("00:00:05")
