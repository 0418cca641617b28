# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node says of the others is complete, and stays small whatever their number is."""

from __future__ import annotations

import json

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.mesh_summary import CLOCKS, Outcome, summarise

SAYINGS = ("timed out", "connection refused", "no route to host", "large packets vanish on the way there")


def test_every_outcome_is_told() -> None:
    found = summarise(
        [
            Outcome(0, 40000, True, "reached", 1500, 9000, 0.25, 0.001),
            Outcome(0, 29500, False, "timed out"),
            Outcome(0, 29501, False, "reached"),
            Outcome(2, 40002, True, "timed out"),
            Outcome(3, 40003, True, "timed out", 0, 9000),
            Outcome(4, 40004, True, "reached", 9000, 9000, -0.5, 0.002),
        ]
    )
    assert found == {
        "reached": 2,
        "failed": {"timed out": "2-3"},
        "ports": {"29500": "timed out", "29501": "reached"},
        "paths": {"1500": "0", "9000": "4"},
        "interfaces": {"9000": "0,3-4"},
        "clocks": [[0, 0.25, 0.001], [4, -0.5, 0.002]],
    }


def test_nobody_dialled() -> None:
    empty: dict[str, object] = {"failed": {}, "ports": {}, "paths": {}, "interfaces": {}}
    assert summarise([]) == {"reached": 0, "clocks": [], **empty}


def test_the_clocks_of_the_first_nodes_are_kept_whatever_the_order_of_dialling() -> None:
    outcomes = [
        Outcome(position, 1, True, "reached", offset=float(position)) for position in (*range(500, 1000), *range(500))
    ]
    assert [row[0] for row in summarise(outcomes)["clocks"]] == list(range(CLOCKS))


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        (lambda position: "reached", 1_000),
        (lambda position: "timed out", 1_000),
        (lambda position: SAYINGS[position % len(SAYINGS)], 6_000),  # the worst that there is: no two in a row
    ],
)
def test_a_thousand_nodes_are_told_in_little_space(said, limit: int) -> None:  # type: ignore[no-untyped-def]
    outcomes = [Outcome(position, 1, True, said(position), 9000, 9000, 0.0, 0.001) for position in range(1000)]
    assert len(json.dumps(summarise(outcomes))) < limit
