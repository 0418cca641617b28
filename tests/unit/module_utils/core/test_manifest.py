# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One digest stands for a whole tree: it changes with everything that counts and with nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.manifest import Entry, compare, root_digest

A = Entry("a", "file", 1, "01")
B = Entry("b/c", "file", 2, "02")
entries = st.lists(
    st.builds(
        Entry, st.text(min_size=1, max_size=4), st.sampled_from(["file", "link"]), st.integers(0, 3), st.just("0")
    ),
    max_size=5,
    unique_by=lambda entry: entry.path,
)


def test_one_file_has_its_own_digest() -> None:
    assert root_digest([Entry("", "file", 1, "abc")]) == "abc"


def test_the_order_of_reading_does_not_count() -> None:
    assert root_digest([A, B]) == root_digest([B, A])


@given(entries, entries)
def test_equal_digests_mean_equal_trees(first: list[Entry], second: list[Entry]) -> None:
    assert (root_digest(first) == root_digest(second)) == (sorted(first) == sorted(second))


@given(entries, entries)
def test_there_is_a_difference_exactly_when_trees_differ(first: list[Entry], second: list[Entry]) -> None:
    assert bool(compare(first, second)) == (sorted(first) != sorted(second))


def test_a_name_with_a_line_break_is_no_two_entries() -> None:
    joined = Entry('a","file",1,"01"]\n["b/c', "file", 2, "02")
    assert root_digest([joined]) != root_digest([A, B])


def test_differences_are_named_by_kind() -> None:
    difference = compare([A, B], [B._replace(digest="ff"), Entry("d", "file", 0, "00")])
    assert difference == (["a"], ["d"], ["b/c"])
