# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of numbers survive being packed, and a thousand of them are short."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.number_ranges import pack, unpack


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([5], "5"), ([2, 0, 1, 7], "0-2,7"), ([3, 3, 4], "3-4"), ([0, 2, 4], "0,2,4"), (range(1000), "0-999")],
)
def test_what_it_looks_like(numbers: list[int], text: str) -> None:
    assert pack(numbers) == text


@given(st.sets(st.integers(0, 2000)))
def test_nothing_is_lost(numbers: set[int]) -> None:
    assert unpack(pack(numbers)) == sorted(numbers)


@pytest.mark.parametrize("text", ["x", "1-", "1-2-3", "1,,2", "-1"])
def test_what_is_no_packed_text(text: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        unpack(text)
