# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hangs is left behind, and what is read beside it comes back all the same."""

from __future__ import annotations

import threading

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.bounded import TookTooLong, side_by_side, within


def test_a_value_or_its_error_comes_back() -> None:
    assert within(30, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        within(30, divmod, 7, 0)


def test_what_hangs_is_left_behind() -> None:
    release = threading.Event()
    with pytest.raises(TookTooLong, match="no answer within 0 s"):
        within(0.1, release.wait)
    release.set()


def test_calls_side_by_side_do_not_wait_for_each_other() -> None:
    """Two calls that meet in a barrier would never end one after the other."""
    barrier, never = threading.Barrier(2), threading.Event()

    def meet() -> str:
        barrier.wait(30)
        return "met"

    def fail() -> None:
        raise ValueError("no such thing")

    outcomes = side_by_side(
        {
            "hangs": (0.2, never.wait),
            "one": (30, meet),
            "two": (30, meet),
            "fails": (30, fail),
            "none": (30, lambda: None),
        }
    )
    never.set()
    assert {name: (outcome.value, outcome.error) for name, outcome in outcomes.items()} == {
        "hangs": (None, "no answer within 0 s"),
        "one": ("met", None),
        "two": ("met", None),
        "fails": (None, "ValueError: no such thing"),
        "none": (None, None),
    }
    assert outcomes["hangs"].seconds >= 0.2
