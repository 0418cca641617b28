# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store of digests is believed whole or not at all, whatever has become of it."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import digest_record
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.digest_algorithms import ALGORITHMS
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.digest_record import (
    MARGIN_NS,
    Record,
    Stamp,
    is_settled,
    parse,
    render,
)

NOW = 1_764_000_000_000_000_000
GOOD = Record("sha256", Stamp(66305, 12, 5_000_000_000, NOW - 10**10, NOW - 10**10), NOW, "ab" * 32)

numbers = st.integers(0, 2**64 - 1)
times = st.integers(-(2**63), NOW - MARGIN_NS - 1)
records = st.sampled_from(sorted(ALGORITHMS)).flatmap(
    lambda algorithm: st.builds(
        Record,
        st.just(algorithm),
        st.builds(Stamp, numbers, numbers, numbers, times, times),
        st.integers(NOW, 2**63),
        st.text("0123456789abcdef", min_size=ALGORITHMS[algorithm], max_size=ALGORITHMS[algorithm]),
    )
)


def store(body: str) -> bytes:
    """A store with a good checksum, as only its owner can make one."""
    return f"gpufleet-digests-1 {hashlib.sha256(body.encode()).hexdigest()}\n{body}".encode()


def line(**changes: object) -> str:
    """The line of a good record, with other words in some places."""
    words = ["sha256", *map(str, GOOD.stamp), str(GOOD.hashed_ns), GOOD.digest]
    places = {"algorithm": 0, "device": 1, "size": 3, "mtime": 4, "digest": 7}
    for name, value in changes.items():
        words[places[name]] = str(value)
    return " ".join(words) + "\n"


@given(st.lists(records, max_size=5))
def test_what_is_written_is_read(kept: list[Record]) -> None:
    assert parse(render(kept).encode()) == kept


def test_the_form_is_what_the_docstring_says() -> None:
    assert render([GOOD]).encode() == store(line())


@given(st.binary(max_size=300))
def test_what_is_no_store_holds_nothing(content: bytes) -> None:
    assert parse(content) == []


@given(st.lists(records, min_size=1, max_size=3), st.data())
def test_a_damaged_store_holds_nothing(kept: list[Record], data: st.DataObject) -> None:
    whole = render(kept).encode()
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged = data.draw(
        st.sampled_from(
            [
                whole[:place],
                whole[:place] + whole[place + 1 :],
                whole[:place] + bytes([whole[place] ^ (1 << data.draw(st.integers(0, 7)))]) + whole[place + 1 :],
                whole + whole[place:],
            ]
        )
    )
    assert parse(damaged) == []


@given(st.text(max_size=200))
def test_a_body_of_anything_holds_nothing(body: str) -> None:
    assert parse(store(body)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithm": "sha1"},
        {"device": "x"},
        {"device": -1},
        {"size": "1e9"},
        {"size": "9" * 5000},
        {"size": "٣"},
        {"mtime": "--1"},
        {"mtime": "True"},
        {"digest": "ab" * 16},
        {"digest": "AB" * 32},
        {"digest": "ab" * 33},
        {"digest": ""},
        {"algorithm": "md5"},
    ],
    ids=str,
)
def test_a_line_of_another_form_spoils_the_store(changes: dict[str, object]) -> None:
    assert parse(store(line())) == [GOOD]
    assert parse(store(line() + line(**changes))) == []


def test_a_larger_store_than_ours_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest_record, "MAX_BYTES", len(store(line())))
    assert parse(store(line())) == [GOOD]
    assert parse(store(line() + line())) == []


def test_as_many_records_as_are_kept_can_be_read() -> None:
    longest = Record(
        "sha256", Stamp(2**64 - 1, 2**64 - 1, 2**63 - 1, -(2**63), -(2**63)), 9_223_372_036_854_775_807, "ab" * 32
    )
    assert len(render([longest] * 10)) < digest_record.MAX_BYTES * 10 / digest_record.MAX_RECORDS


@pytest.mark.parametrize("field", ["mtime_ns", "ctime_ns"])
@pytest.mark.parametrize(("age", "settled"), [(MARGIN_NS + 1, True), (MARGIN_NS, False), (0, False), (-1, False)])
def test_a_file_that_has_just_changed_proves_nothing(field: str, age: int, settled: bool) -> None:
    stamp = GOOD.stamp._replace(**{field: NOW - age})
    assert is_settled(stamp, NOW) is settled
    assert bool(parse(render([GOOD._replace(stamp=stamp)]).encode())) is settled
