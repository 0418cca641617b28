# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A growing log is read line by line, once, in bounded memory."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import log_reader
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.log_reader import CHUNK, MAX_PENDING, LogReader


def append(path: Path, content: bytes) -> None:
    with open(path, "ab") as stream:
        stream.write(content)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "trainer.log"


def test_a_log_that_is_not_there_yet_has_no_lines(log: Path) -> None:
    reader = LogReader(str(log))
    assert list(reader.new_lines()) == []
    append(log, b"a\n")
    assert list(reader.new_lines()) == ["a"]


def test_each_line_comes_once(log: Path) -> None:
    reader = LogReader(str(log))
    append(log, b"a\nb\n")
    assert list(reader.new_lines()) == ["a", "b"]
    assert list(reader.new_lines()) == []
    append(log, b"c\n")
    assert list(reader.new_lines()) == ["c"]


def test_a_line_still_being_written_waits_for_its_end(log: Path) -> None:
    reader = LogReader(str(log))
    append(log, "{'loss': '6.0é".encode()[:-1])
    assert list(reader.new_lines()) == []
    append(log, "é".encode()[1:] + b"75'}\nnext")
    assert list(reader.new_lines()) == ["{'loss': '6.0é75'}"]
    assert reader.rest() == "next"
    assert reader.rest() == ""


def test_a_carriage_return_ends_a_line_of_the_progress_bar(log: Path) -> None:
    append(log, b" 25%|a\r      \r{'loss': '6.0'}\n 50%|b\r\n")
    assert list(LogReader(str(log)).new_lines()) == [" 25%|a", "      ", "{'loss': '6.0'}", " 50%|b"]


def test_lines_across_chunks_are_whole(log: Path) -> None:
    lines = [f"line {number} " + "x" * 997 for number in range(2500)]
    append(log, "\n".join(lines).encode() + b"\n")
    assert os.path.getsize(log) > 2 * CHUNK
    assert list(LogReader(str(log)).new_lines()) == lines


def test_bytes_that_are_no_text_are_replaced(log: Path) -> None:
    append(log, b"\xff\xfe ok\n")
    assert list(LogReader(str(log)).new_lines()) == ["\ufffd\ufffd ok"]


def test_binary_without_an_end_does_not_fill_the_memory(log: Path) -> None:
    reader = LogReader(str(log))
    for _unused in range(4):
        append(log, b"\x00" * (CHUNK + 5))
        assert list(reader.new_lines()) == []
        assert len(reader._pending) <= MAX_PENDING
    append(log, b"\nafter\n")
    *dump, after = reader.new_lines()
    assert sum(map(len, dump)) <= MAX_PENDING + CHUNK
    assert after == "after"


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(1, 16))
def test_how_the_text_came_makes_no_difference(parts: list[bytes], chunk: int) -> None:
    whole = b"".join(parts)
    expected = [line for line in whole.replace(b"\r", b"\n").split(b"\n") if line]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_reader, "CHUNK", chunk)
        path = Path(folder) / "log"
        reader = LogReader(str(path))
        found = []
        for part in parts:
            append(path, part)
            found += reader.new_lines()
        found += [rest] if (rest := reader.rest()) else []
    assert found == [line.decode("utf-8", "replace") for line in expected]


def test_a_log_that_was_cut_is_read_again_from_its_start(log: Path) -> None:
    reader = LogReader(str(log))
    append(log, b"a long line\nanother\n")
    assert list(reader.new_lines()) == ["a long line", "another"]
    log.write_bytes(b"new\n")
    assert list(reader.new_lines()) == ["new"]
    append(log, b"more\n")
    assert list(reader.new_lines()) == ["more"]


def test_of_a_line_that_was_cut_away_nothing_is_left(log: Path) -> None:
    reader = LogReader(str(log))
    append(log, b"a line\nan unfinished ")
    assert list(reader.new_lines()) == ["a line"]
    log.write_bytes(b"new\n")
    assert list(reader.new_lines()) == ["new"]
