# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One digest stands for a whole tree: it changes with everything that counts and with nothing else."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.manifest import (
    Entry,
    ManifestError,
    compare,
    one_line,
    parse_entries,
    path_text,
    root_digest,
)

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


def test_a_root_digest_stays_what_it_was() -> None:
    """Digests are recorded on nodes: another release of the collection must find the same."""
    odd = Entry('q"\\\n\u00e9\U0001f600', "link", 3, "03")
    assert root_digest([A, B, odd]) == "3becc61d5486c3d86133befa2687fdfcff99e79d31d6116d5910b119e5270aeb"


@given(entries)
def test_what_is_hashed_is_json_sorted_by_path(found: list[Entry]) -> None:
    lines = "".join(json.dumps(list(entry), separators=(",", ":")) + "\n" for entry in sorted(found))
    assert root_digest(found) == hashlib.sha256(lines.encode()).hexdigest()
    assert root_digest(found, "md5") == hashlib.md5(lines.encode()).hexdigest()  # noqa: S324


@given(entries, st.data())
def test_any_change_of_any_entry_shows(found: list[Entry], data: st.DataObject) -> None:
    """Adding and removing one is among the cases above, as every pair of lists is."""
    assume(found)
    place = data.draw(st.integers(0, len(found) - 1))
    field = data.draw(st.sampled_from(Entry._fields))
    values = st.integers(0, 2**63) if field == "size" else st.text(max_size=5)
    changed = found[place]._replace(**{field: data.draw(values)})
    assume(changed not in found)
    others = [*found[:place], *found[place + 1 :]]
    assert root_digest([*others, changed]) != root_digest(found)
    assert root_digest(others) != root_digest(found)


@given(entries, entries)
def test_a_difference_is_the_same_seen_from_either_side(first: list[Entry], second: list[Entry]) -> None:
    here, there = compare(first, second), compare(second, first)
    assert (here.missing, here.extra, here.different) == (there.extra, there.missing, there.different)
    assert not {*here.missing} & {*here.extra}
    paths = {entry.path for entry in [*first, *second]}
    same = {entry.path for entry in {*first} & {*second}}
    assert {*here.missing, *here.extra, *here.different} == paths - same


# Names

odd_names = st.lists(
    st.one_of(st.binary(max_size=3), st.sampled_from([b"\\", b"\\x", b"\\xff", b"\\x5c", b"5c", b"x8", b"0", b"\xff"])),
    max_size=5,
).map(b"".join)


def name_of(text: str) -> bytes:
    """What `path_text` wrote, read back by the rule that its docstring gives."""
    pieces = re.split(r"(\\x(?:[89a-f][0-9a-f]|5c))", text)
    return b"".join(
        bytes([int(piece[2:], 16)]) if number % 2 else piece.encode() for number, piece in enumerate(pieces)
    )


@given(odd_names)
def test_each_name_has_a_text_of_its_own(name: bytes) -> None:
    assert name_of(path_text(name)) == name
    path_text(name).encode()  # as JSON and terminals need it


@pytest.mark.parametrize(
    "name", ["model.safetensors", "a b", "line\nbreak", "\u00e9", "C:\\x", "\\x2duuid", "\\xFF", "\\"]
)
def test_ordinary_names_stay_what_they_are(name: str) -> None:
    assert path_text(name.encode()) == name


@given(st.text(st.characters(exclude_categories=[]), max_size=1000))
def test_a_message_is_one_short_line(text: str) -> None:
    shown = one_line(text, 40)
    assert shown.isprintable()
    assert len(shown) <= 10 * (40 + len(" ... "))
    shown.encode()


def test_of_a_long_path_both_ends_are_shown() -> None:
    assert one_line("/begin" + "x" * 5000 + "end\n", 20) == "/beginxxxx ... xxxxxxend\\n"


# Entries of another host


@given(entries)
def test_entries_come_back_as_they_went(found: list[Entry]) -> None:
    assert parse_entries(json.loads(json.dumps([entry._asdict() for entry in found]))) == found


@pytest.mark.parametrize(
    "change", [{"size": "much"}, {"size": None}, {"size": []}, {"path": ...}, {"kind": ...}, {"digest": ...}], ids=str
)
def test_what_is_no_entry_is_refused(change: dict[str, object]) -> None:
    item = {name: value for name, value in {**A._asdict(), **change}.items() if value is not ...}
    with pytest.raises(ManifestError, match="needs path, kind, size and digest"):
        parse_entries([item])


def test_two_entries_for_one_path_are_refused() -> None:
    with pytest.raises(ManifestError, match="same path"):
        parse_entries([A._asdict(), A._replace(digest="ff")._asdict()])
