# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Artifacts are replaced in one step, and what can't be written or read is one clear error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.artifact_store import ArtifactError, ArtifactStore


def test_where_artifacts_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = ArtifactStore("artifacts")
    assert store.verdict_path("launch") == tmp_path / "artifacts" / "launch.json"
    assert store.run_folder("run1") == tmp_path / "artifacts" / "run1"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "deep" / "artifacts"))
    path = store.verdict_path("launch")
    for value in ({"b": 1, "a": "é"}, {"a": 2}):
        store.write_json(path, value)
        assert store.read(path) == value
    assert path.read_text().startswith('{\n  "a"')
    assert path.stat().st_mode & 0o777 == 0o644
    assert [item.name for item in path.parent.iterdir()] == ["launch.json"]


@pytest.mark.parametrize("content", ["", "{", "[1]", "null"])
def test_what_is_no_object_is_an_error_that_names_the_file(tmp_path: Path, content: str) -> None:
    store = ArtifactStore(str(tmp_path))
    path = store.verdict_path("launch")
    path.write_text(content)
    with pytest.raises(ArtifactError, match=r"launch\.json"):
        store.read(path)


def test_a_missing_verdict_is_an_error(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    with pytest.raises(ArtifactError, match=r"launch\.json"):
        store.read(store.verdict_path("launch"))


def test_a_folder_that_can_not_be_used_says_which_setting_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = ArtifactStore(str(tmp_path / "file"))
    with pytest.raises(ArtifactError, match="gpufleet_artifacts_dir"):
        store.write_json(store.verdict_path("launch"), {})


def test_a_failed_write_keeps_the_old_verdict(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    path = store.verdict_path("launch")
    store.write_json(path, {"verdict": "fail"})
    with pytest.raises(UnicodeEncodeError):
        store.write(path, "\ud800")
    assert json.loads(path.read_text()) == {"verdict": "fail"}
