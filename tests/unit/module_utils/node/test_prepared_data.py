# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepared datasets as the datasets library leaves them: only the rows count, and what is not complete is a problem."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from unit.prepared import NAME, prepare

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import prepared_data


def read(path: Path) -> dict[str, Any]:
    return prepared_data.read(str(path), timeout=60)


def folder(path: Path) -> dict[str, Any]:
    folders = read(path)["folders"]
    assert list(folders) == [NAME]
    return dict(folders[NAME])


def note(path: Path, **changes: Any) -> None:
    """Note what is there as provision does."""
    folders = {name: found["digest"] for name, found in prepared_data.folders(str(path)).items()}
    record = {"inputs": {"data": "a"}, "config": "c", "options": [], "release": "r", "folders": folders, **changes}
    (path / prepared_data.RECORD).write_text(json.dumps(record))


def test_nothing_is_prepared(tmp_path: Path) -> None:
    absent = {"path": str(tmp_path / "x"), "exists": False, "folders": {}, "record": {}, "error": None}
    assert read(tmp_path / "x") == absent
    (tmp_path / "datasets_prep.lock").touch()  # Axolotl's, beside them
    (tmp_path / "own").mkdir()
    (tmp_path / ("a" * 32)).mkdir()  # empty: Axolotl would not take it
    assert read(tmp_path) == {**absent, "path": str(tmp_path), "exists": True}


def test_only_the_rows_count(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        prepare(tmp_path / name, ["rows 1", "rows 2"], fingerprint=name)
    (tmp_path / "two" / NAME / "cache-0123.arrow").write_text("of a trainer")
    (tmp_path / "three" / NAME / "data-00001-of-00002.arrow").write_text("rows 3")
    one, two, three = (folder(tmp_path / name) for name in ("one", "two", "three"))
    assert one["digest"] == two["digest"] != three["digest"]
    assert (one["files"], one["size"], one["problems"], one["record"]) == (2, 12, [], "")
    assert one["newest_ns"] == os.stat(tmp_path / "one" / NAME / "state.json").st_mtime_ns


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("{", "lists no files"),
        ("[]", "lists no files"),
        ('{"_data_files": []}', "lists no files"),
        ('{"_data_files": [{"filename": "../../secret"}]}', "lists no files"),
        ('{"_data_files": [{"filename": "gone.arrow"}]}', "there is nothing"),
    ],
)
def test_what_is_not_complete_is_a_problem(tmp_path: Path, content: str | None, said: str) -> None:
    prepare(tmp_path, ["rows"])
    state = tmp_path / NAME / "state.json"
    if content is None:
        state.unlink()
    else:
        state.write_text(content)
    found = folder(tmp_path)
    assert found["digest"] == ""
    assert said in found["problems"][0]


def test_what_provision_noted_stands_beside_what_is_there(tmp_path: Path) -> None:
    prepare(tmp_path, ["rows"])
    note(tmp_path)
    found = folder(tmp_path)
    assert found["record"] == found["digest"] != ""
    assert read(tmp_path)["record"]["inputs"] == {"data": "a"}
    digest = prepared_data.digest(str(tmp_path))
    assert digest
    note(tmp_path, inputs={"data": "b"})
    assert prepared_data.digest(str(tmp_path)) not in ("", digest)
    (tmp_path / NAME / "data-00000-of-00001.arrow").write_text("ROWS")
    assert folder(tmp_path)["record"] != folder(tmp_path)["digest"]
    assert prepared_data.digest(str(tmp_path)) == ""


def test_what_was_noted_and_is_removed_is_not_prepared(tmp_path: Path) -> None:
    note(tmp_path, folders={NAME: "e" * 64})
    assert read(tmp_path)["folders"] == {}
    assert prepared_data.digest(str(tmp_path)) == ""


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"inputs": {}, "folders": {"a": 1}, "config": "c", "release": "r"}', '{"inputs": "x"}', "\udcff"],
)
def test_a_record_of_another_form_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / prepared_data.RECORD).write_bytes(content.encode("utf-8", "surrogateescape"))
    assert prepared_data.read_record(str(tmp_path)) == {}
    assert read(tmp_path)["record"] == {}
    assert prepared_data.digest(str(tmp_path)) == ""


def test_what_another_node_needs_is_listed_file_by_file(tmp_path: Path) -> None:
    prepare(tmp_path, ["rows 1", "rows 2"])
    note(tmp_path)
    (tmp_path / NAME / "cache-0123.arrow").write_text("of a trainer")
    listed = prepared_data.entries(str(tmp_path), prepared_data.read_record(str(tmp_path)))
    rows = [f"{NAME}/data-0000{number}-of-00002.arrow" for number in (0, 1)]
    information = [f"{NAME}/state.json", f"{NAME}/dataset_info.json"]
    assert [entry.path for entry in listed] == [prepared_data.RECORD, *information, *rows]
    assert all(entry.kind == "file" and len(entry.digest) == 64 for entry in listed)


def test_what_takes_too_long_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(prepared_data, "_read", lambda *arguments: release.wait(60))
    found = prepared_data.read(str(tmp_path), timeout=0.2)
    release.set()
    assert (found["folders"], found["error"]) == ({}, "not read within 0.2 s")
