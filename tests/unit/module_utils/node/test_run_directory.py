# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a run are replaced in one step, and a torn one is no reason to fail."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.run_directory import (
    RunDirectory,
    read_json,
    run_directories,
    write_json,
)


def test_the_run_id_is_the_folders_name() -> None:
    folder = RunDirectory("/opt/axolotl/runs/20260101T000000Z-aa")
    assert folder.run_id == "20260101T000000Z-aa"
    assert folder.trainer_log == "/opt/axolotl/runs/20260101T000000Z-aa/trainer.log"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")
    write_json(path, {"a": [1, None]})
    assert read_json(path) == {"a": [1, None]}
    write_json(path, {"a": 2})
    assert read_json(path) == {"a": 2}
    assert os.listdir(tmp_path) == ["state.json"]


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"[1, 2]", b'"text"', b"\xff\xfe", b"null"])
def test_a_torn_file_is_empty(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.json").write_bytes(content)
    assert read_json(str(tmp_path / "state.json")) == {}


def test_a_missing_file_is_empty(tmp_path: Path) -> None:
    assert read_json(str(tmp_path / "state.json")) == {}
    assert read_json(str(tmp_path)) == {}


def test_the_mode_is_set_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_json(str(tmp_path / "open"), {})
        write_json(str(tmp_path / "secret"), {}, mode=0o600)
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("open", "secret")}
    assert modes == {"open": 0o644, "secret": 0o600}


def test_a_value_that_is_no_json_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_reader_never_sees_half_of_it(tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")
    write_json(path, {"filler": "x" * 200_000})
    done = threading.Event()

    def write() -> None:
        for _unused in range(50):
            write_json(path, {"filler": "x" * 200_000})
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        with open(path, encoding="utf-8") as stream:
            assert len(json.load(stream)["filler"]) == 200_000
    writer.join()


def test_runs_are_listed_the_newest_last(tmp_path: Path) -> None:
    for name in ("20260102T000000Z-aa", "20260101T000000Z-zz", "unstaged"):
        (tmp_path / name).mkdir()
        if name != "unstaged":
            (tmp_path / name / "node.json").write_text("{}")
    (tmp_path / "a file").write_text("")
    found = [folder.run_id for folder in run_directories(str(tmp_path))]
    assert found == ["20260101T000000Z-zz", "20260102T000000Z-aa"]
    assert run_directories(str(tmp_path / "none")) == []
