# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NCCL's files are read for the account that asks; one that is not there is no error, one that can't be read is."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import probe_nccl


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The account's home, which is not $HOME."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_dir=str(folder)))
    monkeypatch.setenv("NCCL_DEBUG", "the module's own")
    return folder


def read(tmp_path: Path, version: str | None = "2.28.9", **environment: str) -> dict[str, Any]:
    return probe_nccl.read(environment, version, str(tmp_path / "nccl.conf"))


def test_without_files(home: Path, tmp_path: Path) -> None:
    assert read(tmp_path) == {
        "files": [
            {"path": f"{home}/.nccl.conf", "exists": False, "error": None},
            {"path": f"{tmp_path}/nccl.conf", "exists": False, "error": None},
        ],
        "settings": {},
        "error": None,
    }


def test_environment_home_and_machine(home: Path, tmp_path: Path) -> None:
    (home / ".nccl.conf").write_text("NCCL_IB_TIMEOUT=20\nNCCL_DEBUG=WARN\n")
    (tmp_path / "nccl.conf").write_text("NCCL_DEBUG=INFO\nNCCL_IB_DISABLE=1\n")
    assert read(tmp_path, NCCL_IB_TIMEOUT="22", HOME="/nowhere")["settings"] == {
        "NCCL_DEBUG": {"value": "WARN", "source": f"{home}/.nccl.conf"},
        "NCCL_IB_DISABLE": {"value": "1", "source": f"{tmp_path}/nccl.conf"},
        "NCCL_IB_TIMEOUT": {"value": "22", "source": "environment"},
    }


def test_from_2_30_on_home_is_the_environments(home: Path, tmp_path: Path) -> None:
    (home / ".nccl.conf").write_text("NCCL_DEBUG=WARN\n")
    other = tmp_path / "work"
    other.mkdir()
    (other / ".nccl.conf").write_text("NCCL_DEBUG=TRACE\n")
    assert read(tmp_path, "2.29.7", HOME=str(other))["settings"]["NCCL_DEBUG"]["value"] == "WARN"
    assert read(tmp_path, "2.30.3", HOME=str(other))["settings"]["NCCL_DEBUG"]["value"] == "TRACE"
    assert read(tmp_path, None, HOME=str(other))["settings"]["NCCL_DEBUG"]["value"] == "WARN"


def test_a_file_that_can_not_be_read_is_an_error_and_the_other_counts(home: Path, tmp_path: Path) -> None:
    (home / ".nccl.conf").mkdir()
    (tmp_path / "nccl.conf").write_text("NCCL_DEBUG=INFO\n")
    found = read(tmp_path)
    assert found["files"][0] == {"path": f"{home}/.nccl.conf", "exists": True, "error": "Is a directory"}
    assert found["error"] == f"{home}/.nccl.conf: Is a directory"
    assert found["settings"]["NCCL_DEBUG"]["value"] == "INFO"


def test_a_file_without_end_is_not_read(home: Path, tmp_path: Path) -> None:
    (tmp_path / "nccl.conf").write_text("NCCL_DEBUG=INFO\n" + "#" * probe_nccl.MAX_BYTES)
    assert read(tmp_path)["error"] == f"{tmp_path}/nccl.conf: more than 64 KiB"


def test_a_relative_path_is_refused(home: Path, tmp_path: Path) -> None:
    found = read(tmp_path, NCCL_CONF_FILE="my.conf")
    assert found["error"].startswith("my.conf: a relative path")
    assert list(found["settings"]) == ["NCCL_CONF_FILE"]


def test_an_account_without_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    assert [file["path"] for file in read(tmp_path)["files"]] == [f"{tmp_path}/nccl.conf"]
