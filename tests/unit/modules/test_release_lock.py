# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock is compiled once for given inputs, says what they were, and is never touched again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from unit.helpers import run_module
from unit.releases import make_source, make_uv


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, Any]:
    return {
        "path": str(tmp_path / "locks" / "lock.txt"),
        "source": str(tmp_path / "source"),
        "commit": make_source(tmp_path / "source"),
        "requirements": ["torch==2.13.0"],
        "extras": ["Ray"],
        "python_version": "3.12",
        "torch_backend": "cu130",
        "uv": str(make_uv(tmp_path / "bin")),
    }


def compile_lock(arguments: dict[str, Any], **special: Any) -> dict[str, Any]:
    return run_module("release_lock", arguments, **special)


def test_a_lock_is_compiled_for_the_target(arguments: dict[str, Any]) -> None:
    result = compile_lock(arguments)
    assert result["changed"], result
    text = Path(arguments["path"]).read_text()
    assert result["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert result["release_id"].startswith(arguments["commit"][:12] + "-")
    assert result["packages"] == 1
    assert "absl-py==2.5.1" in result["diff"]["after"]
    # The stand-in repeats the requirements that it was given: those of the build, then those of the fleet.
    assert "['setuptools>=64', 'torch==2.13.0']" in text
    command = Path(arguments["uv"]).with_name("uv.log").read_text()
    for option in ("--generate-hashes", "--python-version 3.12", "--torch-backend cu130", "--extra ray"):
        assert option in command


def test_a_lock_holds_no_path_and_is_readable_by_all(arguments: dict[str, Any], tmp_path: Path) -> None:
    compile_lock(arguments)
    lock = Path(arguments["path"])
    assert str(tmp_path) not in lock.read_text()
    assert lock.stat().st_mode & 0o777 == 0o644
    assert list(lock.parent.iterdir()) == [lock]


def test_an_existing_lock_is_the_contract(arguments: dict[str, Any]) -> None:
    first = compile_lock(arguments)
    # Neither uv nor the source is needed any more.
    second = compile_lock({**arguments, "uv": "/nonexistent/uv", "source": "/nonexistent/source"})
    assert second["changed"] is False
    assert (second["sha256"], second["release_id"]) == (first["sha256"], first["release_id"])


def test_a_lock_of_other_inputs_is_refused(arguments: dict[str, Any]) -> None:
    compile_lock(arguments)
    result = compile_lock({**arguments, "requirements": ["torch==2.12.0"]})
    assert "was compiled from" in result["msg"]
    assert "torch==2.12.0" in result["msg"]


def test_a_lock_written_by_hand_is_taken(arguments: dict[str, Any]) -> None:
    Path(arguments["path"]).parent.mkdir()
    Path(arguments["path"]).write_text("absl-py==2.5.1 --hash=sha256:00\n")
    result = compile_lock(arguments)
    assert (result["changed"], result["packages"]) == (False, 1)


def test_a_check_compiles_nothing(arguments: dict[str, Any]) -> None:
    result = compile_lock({**arguments, "source": "/nonexistent/source"}, check=True)
    assert (result["changed"], result["sha256"], result["release_id"]) == (True, None, None)
    assert not Path(arguments["path"]).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extras": ["fsdp"]}, "defines no extra fsdp; it defines ray: correct axolotl_extras"),
        ({"commit": "main"}, "40 lower-case hex digits"),
        ({"source": "/nonexistent/source"}, "pyproject.toml of commit"),
    ],
)
def test_bad_input_leaves_no_lock(arguments: dict[str, Any], change: dict[str, Any], message: str) -> None:
    result = compile_lock({**arguments, **change})
    assert result["failed"]
    assert message in result["msg"]
    assert not Path(arguments["path"]).exists()


def test_a_failed_resolution_is_told_in_uvs_words(arguments: dict[str, Any]) -> None:
    Path(arguments["uv"]).with_name("fail").write_text("pip compile")
    result = compile_lock(arguments)
    assert "can't be resolved: no solution found" in result["msg"]
    assert not Path(arguments["path"]).exists()
