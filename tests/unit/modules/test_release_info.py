# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module reads, and finds uv; what is broken is no failure."""

from __future__ import annotations

from pathlib import Path

from unit.helpers import run_module
from unit.releases import make_uv, prepare_release


def test_one_call_tells_all_that_provision_decides_by(tmp_path: Path) -> None:
    arguments = prepare_release(tmp_path)
    current = tmp_path / "current"
    question = {
        "path": arguments["path"],
        "current": str(current),
        "tools": str(make_uv(tmp_path / "tools" / "bin").parent.parent),
        "uv_version": "9.9.9",
    }
    before = run_module("release_info", question)
    assert (before["changed"], before["release"]["complete"], before["is_current"]) == (False, False, False)
    assert before["uv"] == str(tmp_path / "tools" / "bin" / "uv")
    run_module("release_build", arguments)
    current.symlink_to(arguments["path"])
    after = run_module("release_info", {**question, "uv_version": "0.0.0"})
    assert (after["release"]["complete"], after["is_current"], after["uv"]) == (True, True, None)


def test_an_absent_release_is_described(tmp_path: Path) -> None:
    result = run_module("release_info", {"path": str(tmp_path / "absent")})
    assert "failed" not in result
    assert result["release"]["exists"] is False
